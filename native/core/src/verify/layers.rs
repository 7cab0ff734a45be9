//! The layers above a container's events: provisional ids; ids, root, header, block hash.
use super::events::Part;
use super::fault::FaultClass;
use super::order::Order;
use super::piece::{Pair, Whole};
use super::view::{View, lookup};
use crate::block::Header;
use crate::merkle;
use crate::suite::Digest;

impl View<'_> {
    /// Provisional ids. One that holds with the event hashes that the frames have was not changed itself.
    pub(super) fn tail(&self, part: &mut Part) {
        let recorded = self.provisionals(&[]);
        let differs = |made: &[Digest]| made.iter().zip(self.container.ids()).any(|(made, id)| made != id);
        if !differs(&recorded) {
            return;
        }
        let bad_hashes = std::mem::take(&mut part.bad_hashes);
        let fixed = self.provisionals(&bad_hashes);
        for (i, id) in self.container.ids().iter().enumerate() {
            let made = recorded.get(i).copied().unwrap_or_default();
            if made != *id && fixed.get(i) != Some(id) {
                part.fault(i, FaultClass::Provisional, *id, made);
            }
        }
        part.bad_hashes = bad_hashes;
    }

    /// Ids, root, header and block hash. Returns the ids at fault with what they should be, and the block hash.
    pub(super) fn block(
        &self,
        whole: &Whole,
        order: &Order,
        part: &mut Part,
    ) -> (Vec<(usize, Digest)>, bool, Pair) {
        let header = self.container.header();
        let bad_ids = self.bad_ids(part);
        let mut fixed = header.clone();
        if let Some(root) = self.bad_root(whole.root, &bad_ids) {
            part.fault(0, FaultClass::Root, header.root, root);
            fixed.root = root;
        }
        self.whens(order, &mut fixed, part);
        if let Some(latest) = order.recorded_max.filter(|latest| *latest > header.sealed_at) {
            part.fault(0, FaultClass::SealedAt, header.sealed_at, latest);
        }
        if header.closes && u64::from(header.count) < header.last().min(3) {
            part.fault(
                0,
                FaultClass::Close,
                u64::from(header.count),
                header.last().min(3),
            );
        }
        fixed.genesis = whole.genesis;
        let recorded = *self.container.hash();
        let recomputed = whole.hash;
        let sound = recomputed == recorded || fixed.digest() == recorded;
        if sound {
            return (bad_ids, true, Pair::same(recorded));
        }
        part.fault(0, FaultClass::BlockHash, recorded, recomputed);
        (bad_ids, false, Pair { recorded, recomputed })
    }

    /// An id is at fault if it fails with the recorded values below it, and with what those at fault should be.
    fn bad_ids(&self, part: &mut Part) -> Vec<(usize, Digest)> {
        let suspects = std::mem::take(&mut part.bad_ids);
        let as_seamed = View {
            seams: *self.without_fillers,
            ..*self
        };
        let mut bad: Vec<(usize, Digest)> = Vec::new();
        for (i, made) in suspects {
            let id = self.id(i as isize);
            let with_ids = self.link(i, &bad, &[]);
            let holds = with_ids == id
                || self.link(i, &[], &part.bad_hashes) == id
                || self.link(i, &bad, &part.bad_hashes) == id
                || as_seamed.link(i, &[], &[]) == id;
            if !holds {
                part.fault(i, FaultClass::Id, id, made);
                bad.push((i, with_ids));
            }
        }
        bad
    }

    /// The root as it should be, if the recorded one fits neither the recorded ids nor the right ones.
    fn bad_root(&self, made: Digest, bad_ids: &[(usize, Digest)]) -> Option<Digest> {
        let Header { suite, root, .. } = *self.container.header();
        if made == root {
            return None;
        }
        let right: Vec<Digest> = self
            .container
            .ids()
            .iter()
            .enumerate()
            .map(|(i, id)| lookup(bad_ids, i).unwrap_or(*id))
            .collect();
        (bad_ids.is_empty() || merkle::root(suite, &right) != Some(root)).then_some(made)
    }

    /// The least and the greatest `when`; where an event cannot be relied upon, they may be its.
    fn whens(&self, order: &Order, fixed: &mut Header, part: &mut Part) {
        let header = self.container.header();
        let (Some(min), Some(max)) = (order.when_min, order.when_max) else {
            return;
        };
        if header.when_min > min || (order.exact && header.when_min != min) {
            part.fault(0, FaultClass::WhenRange, header.when_min, min);
            fixed.when_min = min;
        }
        if header.when_max < max || (order.exact && header.when_max != max) {
            part.fault(0, FaultClass::WhenRange, header.when_max, max);
            fixed.when_max = max;
        }
    }
}

//! From what a proof shows up to the log's root. FORMAT.md, "Event proof".
use super::Proof;
use crate::block::Header;
use crate::event::Event;
use crate::link::link;
use crate::log::{self, Leaf, leaf_hash};
use crate::merkle;
use crate::suite::{Digest, Role, Suite, hash};

/// The digests that follow from what a proof shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// G of the flow.
    pub genesis: Digest,
    /// E of the event.
    pub event: Digest,
    /// I of the event.
    pub id: Digest,
    /// The block hash.
    pub block: Digest,
    /// The hash of the block's leaf in the log.
    pub leaf: Digest,
}

impl Proof<'_> {
    /// All digests up to the leaf's. None if a path or a filler is not as position and header say, which no proof has
    /// that was read from a text.
    pub(crate) fn digests(&self) -> Option<Digests> {
        let suite = self.genesis.suite;
        let genesis = self.genesis.digest();
        let event = event_hash(suite, &self.event)?;
        let id = link(
            suite,
            &genesis,
            &self.before(genesis)?,
            &self.hashes(event, genesis)?,
        );
        let header = self.header_over(genesis, id)?;
        let block = header.digest();
        let leaf = Leaf::Block {
            suite,
            genesis,
            height: header.height,
            last: header.last(),
            hash: block,
        };
        Some(Digests {
            genesis,
            event,
            id,
            block,
            leaf: leaf_hash(&leaf.encode()),
        })
    }

    /// The root of the log of this size that has the leaf where the proof says.
    pub(crate) fn log_root(&self, digests: &Digests, size: u64) -> Option<Digest> {
        log::root_over(digests.leaf, self.logged.index, size, &self.logged.path)
    }

    /// The three ids before, G where there is no event.
    fn before(&self, genesis: Digest) -> Option<[Digest; 3]> {
        let fillers = vec![genesis; 3_usize.checked_sub(self.ids_before.len())?];
        [fillers, self.ids_before.clone()].concat().try_into().ok()
    }

    /// The event's hash and the three after it, G where there is no event.
    fn hashes(&self, event: Digest, genesis: Digest) -> Option<[Digest; 4]> {
        let fillers = vec![genesis; 3_usize.checked_sub(self.hashes_after.len())?];
        [vec![event], self.hashes_after.clone(), fillers]
            .concat()
            .try_into()
            .ok()
    }

    fn header_over(&self, genesis: Digest, id: Digest) -> Option<Header> {
        let header = &self.header;
        let i = self.n.checked_sub(header.first)?;
        let root = merkle::root_over(header.suite, id, i, u64::from(header.count), &self.path)?;
        let previous = if header.height == 0 {
            genesis
        } else {
            header.previous
        };
        Some(Header {
            genesis,
            previous,
            root,
            ..header.clone()
        })
    }
}

fn event_hash(suite: Suite, event: &Event<'_>) -> Option<Digest> {
    let mut frame = Vec::new();
    event.encode(&mut frame).ok()?;
    Some(hash(suite, Role::Event, &[&frame]))
}

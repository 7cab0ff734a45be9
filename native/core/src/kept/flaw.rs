//! Whether a kept part holds in itself: each layer recomputed from the recorded layer below it.
use super::Kept;
use crate::block::last_three;
use crate::link::linked;
use crate::merkle;
use crate::suite::{Digest, Role, hash_each};
use crate::verify::{Datum, FaultClass};

/// Where a block stands, as far as its keeper knows.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its height.
    pub height: u64,
    /// The block before, if that is beyond doubt.
    pub before: Option<&'a Kept<'a>>,
}

/// The lowest layer that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// What does not hold.
    pub class: FaultClass,
    /// The position that it concerns.
    pub position: u64,
    /// What is recorded.
    pub recorded: Datum,
    /// What it should be.
    pub recomputed: Datum,
}

impl Kept<'_> {
    /// What does not hold in it, or with where it stands.
    pub fn flaw(&self, place: &Place<'_>) -> Option<Flaw> {
        let header = &self.header;
        let of_block = |class, recorded: Datum, recomputed: Datum| {
            (recorded != recomputed).then_some(Flaw {
                class,
                position: header.first,
                recorded,
                recomputed,
            })
        };
        let genesis = self.genesis_digest();
        let first = (place.height == 0).then_some(genesis);
        let previous = first.or(place.before.map(|before| *before.hash));
        of_block(FaultClass::Genesis, header.genesis.into(), genesis.into())
            .or_else(|| of_block(FaultClass::Height, header.height.into(), place.height.into()))
            .or_else(|| self.filler(&genesis))
            .or_else(|| self.id(&genesis))
            .or_else(|| {
                let root = merkle::root(header.suite, self.ids).unwrap_or_default();
                of_block(FaultClass::Root, header.root.into(), root.into())
            })
            .or_else(|| of_block(FaultClass::BlockHash, (*self.hash).into(), header.digest().into()))
            .or_else(|| of_block(FaultClass::Previous, header.previous.into(), previous?.into()))
            .or_else(|| self.edge(place.before?))
    }

    /// The seams in front are what the block before records.
    fn edge(&self, before: &Kept<'_>) -> Option<Flaw> {
        let [second, first] = before.seams.hashes;
        let ids = last_three(before.seams.ids, before.ids);
        let [_, hashes @ ..] = last_three([first, second, first], before.hashes);
        let recorded = self.seams.ids.iter().chain(&self.seams.hashes);
        let (one, other) = recorded
            .zip(ids.iter().chain(&hashes))
            .find(|(one, other)| one != other)?;
        Some(self.seam(one, other))
    }

    fn seam(&self, recorded: &Digest, recomputed: &Digest) -> Flaw {
        Flaw {
            class: FaultClass::Seam,
            position: self.header.first,
            recorded: (*recorded).into(),
            recomputed: (*recomputed).into(),
        }
    }

    /// G stands in the seams where there is no event, and nowhere else.
    fn filler(&self, genesis: &Digest) -> Option<Flaw> {
        let (first, closes) = (self.header.first, self.header.closes);
        let ids = self.seams.ids.iter().zip([3, 2, 1]);
        let before = ids.chain(self.seams.hashes.iter().zip([2, 1]));
        let before = before.map(|(digest, back)| (digest, first <= back));
        let next = self.seams.next_hashes.iter().map(|digest| (digest, closes));
        let (wrong, _) = before
            .chain(next)
            .find(|(digest, fills)| (*digest == genesis) != *fills)?;
        Some(self.seam(wrong, genesis))
    }

    /// The first id that is not the link of what is recorded around it.
    fn id(&self, genesis: &Digest) -> Option<Flaw> {
        let ids = [&self.seams.ids[..], self.ids].concat();
        let hashes = [self.hashes, &self.seams.next_hashes[..]].concat();
        let made = ids.windows(3).zip(hashes.windows(4));
        let made =
            made.filter_map(|(before, own)| Some(linked(genesis, before.first_chunk()?, own.first_chunk()?)));
        let linked: Vec<_> = made.collect();
        let inputs: Vec<&[u8]> = linked.iter().map(|input| input.as_flattened()).collect();
        let mut digests = Vec::with_capacity(inputs.len());
        hash_each(self.header.suite, Role::Link, &inputs, &mut digests);
        let (i, (id, made)) = self
            .ids
            .iter()
            .zip(&digests)
            .enumerate()
            .find(|(_, (id, made))| id != made)?;
        Some(Flaw {
            class: FaultClass::Id,
            position: self.header.first.saturating_add(i as u64),
            recorded: (*id).into(),
            recomputed: (*made).into(),
        })
    }
}

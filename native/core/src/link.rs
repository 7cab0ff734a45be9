//! What binds an event to its neighbours. FORMAT.md, "Ids".
use crate::suite::{Digest, Role, Suite, hash};

/// What Iₙ is the hash of, part by part.
pub(crate) type Linked = [Digest; 8];

/// What Iₙ is the hash of: the three ids before it, oldest first, and Eₙ … Eₙ₊₃.
pub(crate) fn linked(genesis: &Digest, before: &[Digest; 3], hashes: &[Digest; 4]) -> Linked {
    let [third, second, first] = *before;
    let [own, next, next2, next3] = *hashes;
    [*genesis, first, second, third, own, next, next2, next3]
}

/// Iₙ of the three ids before it, oldest first, and Eₙ … Eₙ₊₃.
pub fn link(suite: Suite, genesis: &Digest, before: &[Digest; 3], hashes: &[Digest; 4]) -> Digest {
    let input = linked(genesis, before, hashes);
    hash(suite, Role::Link, &[input.as_flattened()])
}

/// What Pₙ is the hash of, padding included.
pub(crate) fn provided(genesis: &Digest, id: &Digest, hashes: &[Digest; 3], n: u64) -> [u8; 192] {
    let [second, first, own] = *hashes;
    let mut input = [0; 192];
    let parts = [*genesis, *id, second, first, own];
    for (room, byte) in input
        .iter_mut()
        .zip(parts.as_flattened().iter().chain(&n.to_be_bytes()))
    {
        *room = *byte;
    }
    input
}

/// Pₙ of Iₙ₋₃ and Eₙ₋₂, Eₙ₋₁, Eₙ.
pub fn provisional(suite: Suite, genesis: &Digest, id: &Digest, hashes: &[Digest; 3], n: u64) -> Digest {
    hash(suite, Role::Provisional, &[&provided(genesis, id, hashes, n)])
}

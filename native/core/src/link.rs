//! What binds an event to its neighbours. FORMAT.md, "Ids".
use crate::suite::{Digest, Role, Suite, hash};

/// Iₙ of the three ids before it, oldest first, and Eₙ … Eₙ₊₃.
pub fn link(suite: Suite, genesis: &Digest, before: &[Digest; 3], hashes: &[Digest; 4]) -> Digest {
    let [third, second, first] = before;
    let [own, next, next2, next3] = hashes;
    hash(
        suite,
        Role::Link,
        &[genesis, first, second, third, own, next, next2, next3],
    )
}

/// Pₙ of Iₙ₋₃ and Eₙ₋₂, Eₙ₋₁, Eₙ.
pub fn provisional(suite: Suite, genesis: &Digest, id: &Digest, hashes: &[Digest; 3], n: u64) -> Digest {
    let [second, first, own] = hashes;
    hash(
        suite,
        Role::Provisional,
        &[genesis, id, second, first, own, &n.to_be_bytes()],
    )
}

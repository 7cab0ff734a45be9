//! The store-wide log: one RFC 6962 tree over what was sealed, settled, erased and decided. FORMAT.md, "Log".
//!
//! [`Tree`] keeps it, grown by [`Frontier`]; [`Plan`] makes paths of its stored hashes, [`includes`] and [`extends`] check them.
use sha2::{Digest as _, Sha256};

use crate::digest::{Algorithm, digest_each};
use crate::suite::Digest;

mod leaf;
mod ledger;
mod stored;
mod tree;
mod verify;

pub use leaf::Leaf;
pub use ledger::{Discord, Ledger, Stray};
pub use stored::{Frontier, Full, Plan, SIZE_MAX, stored_count};
pub use tree::{CHUNK, Chunks, Index, Missing, Tree};
pub use verify::{extends, includes, root_over};

/// The hash of a leaf (RFC 6962, section 2.1).
pub fn leaf_hash(data: &[u8]) -> Digest {
    hash(&[&[0], data])
}

/// The hash of a node above two others.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    hash(&[&[1], left, right])
}

/// The hashes of many leaves, side by side.
fn leaf_hashes(leaves: &[&[u8]]) -> Vec<Digest> {
    hashes(leaves.iter().map(|data| [&[0], *data].concat()))
}

/// The hash over a power of two of leaf hashes.
fn whole(mut level: Vec<Digest>) -> Digest {
    while level.len() > 1 {
        let (pairs, _) = level.as_chunks::<2>();
        level = hashes(
            pairs
                .iter()
                .map(|[left, right]| [&[1], &left[..], right].concat()),
        );
    }
    level.first().copied().unwrap_or_default()
}

fn hashes(inputs: impl Iterator<Item = Vec<u8>>) -> Vec<Digest> {
    let inputs: Vec<Vec<u8>> = inputs.collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    digest_each(Algorithm::Sha256, &inputs)
}

/// The root of a tree without leaves.
pub fn empty_root() -> Digest {
    hash(&[])
}

fn hash(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

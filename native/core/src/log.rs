//! Leaves and root of the store-wide log. FORMAT.md, "Log".
use sha2::{Digest as _, Sha256};

use crate::suite::{Digest, Suite};

/// The data of a block's leaf.
pub fn block_leaf(suite: Suite, genesis: &Digest, height: u64, last: u64, hash: &Digest) -> Vec<u8> {
    let (height, last) = (height.to_be_bytes(), last.to_be_bytes());
    [&[1, suite.as_u8()], &genesis[..], &height, &last, hash].concat()
}

/// The data of a tail's leaf: position and provisional id of a flow's last settled event.
pub fn tail_leaf(suite: Suite, genesis: &Digest, n: u64, provisional: &Digest) -> Vec<u8> {
    [&[2, suite.as_u8()], &genesis[..], &n.to_be_bytes(), provisional].concat()
}

/// The root over leaf data (RFC 6962, section 2.1).
pub fn root<T: AsRef<[u8]>>(leaves: &[T]) -> Digest {
    let mut level: Vec<Digest> = leaves.iter().map(|leaf| hash(&[&[0], leaf.as_ref()])).collect();
    if level.is_empty() {
        return hash(&[]);
    }
    while level.len() > 1 {
        let (pairs, odd) = level.as_chunks::<2>();
        let above = pairs.iter().map(|[left, right]| hash(&[&[1], left, right]));
        // An odd last node moves up as it is: so the tree splits at the largest power of two.
        level = above.chain(odd.iter().copied()).collect();
    }
    level.first().copied().unwrap_or_default()
}

fn hash(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

//! RFC 6962, section 2.1, word by word.
use sha2::{Digest as _, Sha256};

use crate::suite::Digest;

/// MTH.
pub fn root(leaves: &[Vec<u8>]) -> Digest {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::digest([&[0], &leaf[..]].concat()).into(),
        _ => {
            let (left, right) = halves(leaves);
            Sha256::digest([&[1], &root(left)[..], &root(right)].concat()).into()
        }
    }
}

/// PATH.
pub fn path(m: usize, leaves: &[Vec<u8>]) -> Vec<Digest> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = halves(leaves);
    if m < left.len() {
        [path(m, left), vec![root(right)]].concat()
    } else {
        [path(m - left.len(), right), vec![root(left)]].concat()
    }
}

/// PROOF; from an empty tree there is none.
pub fn consistency(m: usize, leaves: &[Vec<u8>]) -> Vec<Digest> {
    if m == 0 {
        Vec::new()
    } else {
        subproof(m, leaves, true)
    }
}

fn subproof(m: usize, leaves: &[Vec<u8>], whole: bool) -> Vec<Digest> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = halves(leaves);
    if m <= left.len() {
        [subproof(m, left, whole), vec![root(right)]].concat()
    } else {
        [subproof(m - left.len(), right, false), vec![root(left)]].concat()
    }
}

fn halves(leaves: &[Vec<u8>]) -> (&[Vec<u8>], &[Vec<u8>]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

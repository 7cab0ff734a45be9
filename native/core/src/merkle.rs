//! The Merkle root over a block's ids. FORMAT.md, "Root".
use crate::suite::{Digest, Role, Suite, hash_each};

/// The root of a tree that splits as RFC 6962 does; a leaf is the id itself, and no ids have no root.
///
/// Level by level, an odd last node moving up as it is: the same tree, and each level is one batch.
pub fn root(suite: Suite, ids: &[Digest]) -> Option<Digest> {
    let mut level = ids.to_vec();
    let mut above = Vec::with_capacity(level.len() / 2 + 1);
    while level.len() > 1 {
        let (pairs, odd) = level.as_chunks::<2>();
        let inputs: Vec<&[u8]> = pairs.iter().map(|pair| pair.as_flattened()).collect();
        above.clear();
        hash_each(suite, Role::Node, &inputs, &mut above);
        above.extend_from_slice(odd);
        std::mem::swap(&mut level, &mut above);
    }
    level.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn the_root_equals_the_recursive_reference_around_every_power_of_two() {
        let ids: Vec<Digest> = (0..=130_u8).map(|i| [i; 32]).collect();
        assert_eq!(root(Suite::Sha256, &[]), None);
        for suite in [Suite::Sha256, Suite::Blake3] {
            for count in (1..=33).chain([63, 64, 65, 127, 128, 129]) {
                assert_eq!(
                    root(suite, &ids[..count]),
                    Some(reference::root(suite, &ids[..count])),
                    "{count}"
                );
            }
        }
    }
}

//! The Merkle root over a block's ids. FORMAT.md, "Root".
use crate::suite::{Digest, Role, Suite, hash_each};

pub(crate) mod shape;

/// The root of a tree that splits as RFC 6962 does; a leaf is the id itself, and no ids have no root.
pub fn root(suite: Suite, ids: &[Digest]) -> Option<Digest> {
    roots(suite, &[ids]).into_iter().flatten().next()
}

/// The roots of many trees.
///
/// Level by level, an odd last node moving up as it is: the same tree, and each level of all trees is one batch.
pub fn roots(suite: Suite, trees: &[&[Digest]]) -> Vec<Option<Digest>> {
    let mut counts: Vec<usize> = trees.iter().map(|ids| ids.len()).collect();
    let mut level = trees.concat();
    let (mut above, mut nodes) = (Vec::new(), Vec::new());
    while counts.iter().any(|count| *count > 1) {
        let inputs: Vec<&[u8]> = split(&level, &counts)
            .flat_map(|tree| tree.as_chunks::<2>().0)
            .map(|pair| pair.as_flattened())
            .collect();
        nodes.clear();
        hash_each(suite, Role::Node, &inputs, &mut nodes);
        above.clear();
        let mut made = nodes.as_slice();
        for tree in split(&level, &counts) {
            let (own, others) = made.split_at((tree.len() / 2).min(made.len()));
            above.extend_from_slice(own);
            above.extend_from_slice(tree.as_chunks::<2>().1);
            made = others;
        }
        counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
        std::mem::swap(&mut level, &mut above);
    }
    split(&level, &counts).map(|tree| tree.first().copied()).collect()
}

fn split<'a>(mut level: &'a [Digest], counts: &'a [usize]) -> impl Iterator<Item = &'a [Digest]> {
    counts.iter().map(move |count| {
        let (tree, others) = level.split_at((*count).min(level.len()));
        level = others;
        tree
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn many_roots_at_once_are_the_roots_of_each() {
        let ids: Vec<Digest> = (0..=130_u8).map(|i| [i; 32]).collect();
        let trees: Vec<&[Digest]> = [5, 0, 1, 130, 2, 3, 64, 7].map(|count| &ids[..count]).to_vec();
        for suite in [Suite::Sha256, Suite::Blake3] {
            let each: Vec<Option<Digest>> = trees
                .iter()
                .map(|ids| (!ids.is_empty()).then(|| reference::root(suite, ids)))
                .collect();
            assert_eq!(roots(suite, &trees), each);
            assert_eq!(roots(suite, &[]), []);
        }
    }

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

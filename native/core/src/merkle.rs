//! The Merkle root over a block's ids. FORMAT.md, "Root".
use std::ops::Range;

use crate::suite::{Digest, Role, Suite, hash, hash_each};

pub(crate) mod shape;

/// The root of a tree that splits as RFC 6962 does; a leaf is the id itself, and no ids have no root.
pub fn root(suite: Suite, ids: &[Digest]) -> Option<Digest> {
    roots(suite, &[ids]).into_iter().flatten().next()
}

/// The path of the i-th id: from its sibling up to the root's child. None if there is no such id.
pub fn path(suite: Suite, ids: &[Digest], i: usize) -> Option<Vec<Digest>> {
    let under = |range: Range<u64>| ids.get(range.start as usize..range.end as usize);
    let siblings = shape::siblings(i as u64, ids.len() as u64)?;
    let siblings: Vec<&[Digest]> = siblings.into_iter().map(under).collect::<Option<_>>()?;
    roots(suite, &siblings).into_iter().collect()
}

/// The root of a tree of this size that has this id at this place, by this path. None if the path is not as long as place
/// and size ask.
pub fn root_over(suite: Suite, id: Digest, i: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    shape::climb(id, i, size, path, |left, right| {
        hash(suite, Role::Node, &[left, right])
    })
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
    fn every_id_has_a_path_to_the_root_and_to_no_other_place() {
        let ids: Vec<Digest> = (0..=40_u8).map(|i| [i; 32]).collect();
        for suite in [Suite::Sha256, Suite::Blake3] {
            for size in 1..=ids.len() {
                let ids = &ids[..size];
                let root = Some(reference::root(suite, ids));
                assert_eq!(path(suite, ids, size), None);
                for (i, id) in ids.iter().enumerate() {
                    let path = path(suite, ids, i).unwrap();
                    assert_eq!(
                        root_over(suite, *id, i as u64, size as u64, &path),
                        root,
                        "{i} of {size}"
                    );
                    let other = (i as u64 + 1) % size as u64;
                    assert!(size == 1 || root_over(suite, *id, other, size as u64, &path) != root);
                    let longer = [&path[..], &[[0; 32]]].concat();
                    assert_eq!(root_over(suite, *id, i as u64, size as u64, &longer), None);
                }
            }
        }
    }

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

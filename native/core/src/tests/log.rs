//! The tree against RFC 6962's own recursion, and paths that were tampered with.
use std::convert::Infallible;
use std::ops::Range;

use proptest::prelude::*;

use crate::log::{
    Frontier, Full, Plan, SIZE_MAX, empty_root, extends, includes, leaf_hash, node_hash, root_over,
    stored_count,
};
use crate::suite::Digest;

pub mod naive;

/// One more than a tree with six whole levels, and its neighbours.
const SIZES: Range<u64> = 0..71;

fn leaves() -> Vec<Vec<u8>> {
    SIZES
        .map(|i| i.to_be_bytes()[8 - i as usize % 9..].to_vec())
        .collect()
}

#[test]
fn leaves_added_together_make_the_tree_that_they_make_one_by_one() {
    let leaves = leaves();
    let leaves: Vec<&[u8]> = leaves.iter().map(Vec::as_slice).collect();
    for first in 0..leaves.len() {
        for second in first..leaves.len() {
            let (mut together, mut alone) = (Frontier::default(), Frontier::default());
            together.extend(&leaves[..first]).unwrap();
            together.extend(&leaves[first..second]).unwrap();
            for leaf in &leaves[..second] {
                alone.push(leaf_hash(leaf), &mut Vec::new()).unwrap();
            }
            assert_eq!(together, alone, "{first} {second}");
        }
    }
}

/// A tree that is stored in memory.
struct Stored {
    leaves: Vec<Vec<u8>>,
    hashes: Vec<Digest>,
    roots: Vec<Digest>,
}

impl Stored {
    fn new() -> Stored {
        let leaves = leaves();
        let (mut frontier, mut hashes) = (Frontier::default(), Vec::new());
        let mut roots = vec![frontier.root()];
        for (i, leaf) in leaves.iter().enumerate() {
            frontier.push(leaf_hash(leaf), &mut hashes).unwrap();
            assert_eq!(frontier.size(), i as u64 + 1);
            assert_eq!(hashes.len() as u64, stored_count(frontier.size()));
            roots.push(frontier.root());
        }
        Stored {
            leaves,
            hashes,
            roots,
        }
    }

    fn read(&self, index: u64) -> Result<Digest, Infallible> {
        Ok(self.hashes[index as usize])
    }

    fn path(&self, plan: Option<Plan>) -> Vec<Digest> {
        let plan = plan.unwrap();
        let mut asked = Vec::new();
        let Ok(path) = plan.path(|index| {
            asked.push(index);
            self.read(index)
        });
        assert_eq!(asked, plan.indexes());
        path
    }
}

#[test]
fn roots_are_those_of_the_recursion_and_a_frontier_is_restored_at_every_size() {
    let stored = Stored::new();
    for size in 0..=stored.leaves.len() {
        assert_eq!(stored.roots[size], naive::root(&stored.leaves[..size]), "{size}");
        let Ok(mut frontier) = Frontier::restore(size as u64, |index| stored.read(index));
        assert_eq!(frontier.root(), stored.roots[size]);
        let mut kept = frontier.peaks().iter().copied();
        assert_eq!(
            Frontier::restore(size as u64, |_| kept.next().ok_or(())),
            Ok(frontier.clone())
        );
        let mut further = Vec::new();
        for leaf in &stored.leaves[size..] {
            frontier.push(leaf_hash(leaf), &mut further).unwrap();
        }
        assert_eq!(
            further,
            stored.hashes[stored_count(size as u64) as usize..],
            "{size}"
        );
    }
}

#[test]
fn a_hash_that_cannot_be_read_is_the_readers_error() {
    let plan = Plan::inclusion(3, 10).unwrap();
    assert_eq!(
        plan.path(|index| if index == 2 { Err("gone") } else { Ok([0; 32]) }),
        Err("gone")
    );
    assert_eq!(Frontier::restore(1, |_| Err("gone")), Err("gone"));
}

/// Everything that is done to a path: a node changed, taken out, doubled, swapped; one put before and behind.
fn tampered(path: &[Digest]) -> Vec<Vec<Digest>> {
    let mut out = Vec::new();
    let mut with = |change: &dyn Fn(&mut Vec<Digest>)| {
        let mut wrong = path.to_vec();
        change(&mut wrong);
        if wrong != path {
            out.push(wrong);
        }
    };
    with(&|path| path.push([0; 32]));
    with(&|path| path.insert(0, [0; 32]));
    with(&|path| path.reverse());
    for i in 0..path.len() {
        with(&|path| path[i][i % 32] ^= 1);
        with(&|path| path[i][31] ^= 0x80);
        with(&|path| path.truncate(i));
        with(&|path| {
            path.remove(i);
        });
        with(&|path| path.insert(i, path[i]));
        with(&|path| path.rotate_left(i));
        with(&|path| path.swap(i.saturating_sub(1), i));
    }
    out
}

#[test]
fn inclusion_paths_are_those_of_the_recursion_and_nothing_else_passes() {
    let stored = Stored::new();
    for size in SIZES {
        assert_eq!(Plan::inclusion(size, size), None);
        let root = stored.roots[size as usize];
        for index in 0..size {
            let leaf = leaf_hash(&stored.leaves[index as usize]);
            let path = stored.path(Plan::inclusion(index, size));
            assert_eq!(path, naive::path(index as usize, &stored.leaves[..size as usize]));
            assert!(includes(&root, size, leaf, index, &path));
            assert!(!includes(&root, size, [1; 32], index, &path));
            for wrong in tampered(&path) {
                assert!(!includes(&root, size, leaf, index, &wrong), "{index} of {size}");
            }
            for other in (0..size + 2).filter(|other| *other != index) {
                assert!(
                    !includes(&root, size, leaf, other, &path),
                    "{index} of {size} as {other}"
                );
            }
        }
    }
}

/// A leaf at the same side of every node has the same way up in trees of several sizes, so a size is only as good as the
/// root that is signed with it.
#[test]
fn a_path_of_another_length_does_not_fit_a_size() {
    let stored = Stored::new();
    let path = stored.path(Plan::inclusion(5, 20));
    for size in (0..5).chain([6, 7, 8, 9, 16, 33, 64, 65, u64::MAX]) {
        assert_eq!(
            root_over(leaf_hash(&stored.leaves[5]), 5, size, &path),
            None,
            "{size}"
        );
    }
}

#[test]
fn consistency_paths_are_those_of_the_recursion_and_nothing_else_passes() {
    let stored = Stored::new();
    let tree = |size: u64| (size, &stored.roots[size as usize]);
    for new in SIZES {
        assert_eq!(Plan::consistency(new + 1, new), None);
        for old in 0..=new {
            let path = stored.path(Plan::consistency(old, new));
            assert_eq!(
                path,
                naive::consistency(old as usize, &stored.leaves[..new as usize])
            );
            assert!(extends(tree(new), tree(old), &path), "{old} {new}");
            for wrong in tampered(&path) {
                assert!(!extends(tree(new), tree(old), &wrong), "{old} {new}");
            }
            assert!(!extends(tree(new), (old, &[1; 32]), &path), "{old} {new}");
            if old > 0 {
                assert!(!extends((new, &[1; 32]), tree(old), &path), "{old} {new}");
            }
            if old < new {
                assert!(!extends(tree(old), tree(new), &path), "{old} {new}");
            }
            for other in (old.max(1)..90).filter(|other| nodes(old, *other) != path.len()) {
                assert!(
                    !extends((other, tree(new).1), tree(old), &path),
                    "{old} {new} as {other}"
                );
            }
        }
    }
}

/// How many nodes a consistency path has: one for each split, and the old tree's last part unless it is the whole old tree.
fn nodes(old: u64, new: u64) -> usize {
    let (mut old, mut new, mut whole, mut count) = (old, new, true, 0);
    while 0 < old && old < new {
        let split = new.next_power_of_two() / 2;
        if old <= split {
            new = split;
        } else {
            (old, new, whole) = (old - split, new - split, false);
        }
        count += 1;
    }
    count + usize::from(!whole)
}

#[test]
fn the_empty_tree_is_the_beginning_of_every_tree_by_an_empty_path_alone() {
    let (root, none) = ([3; 32], empty_root());
    assert!(extends((9, &root), (0, &none), &[]));
    assert!(!extends((9, &root), (0, &root), &[]));
    assert!(!extends((9, &root), (0, &none), &[none]));
    assert!(extends((0, &none), (0, &none), &[]));
    assert!(!extends((0, &root), (0, &none), &[]));
    assert!(!includes(&none, 0, none, 0, &[]));
}

/// A tree whose leaves are all the same has one hash for each level, so it can be as great as one likes.
struct Uniform(Vec<Digest>);

impl Uniform {
    fn new() -> Uniform {
        let levels = std::iter::successors(Some([5; 32]), |below| Some(node_hash(below, below)));
        Uniform(levels.take(64).collect())
    }

    /// A stored hash: behind which leaf it stands tells its level.
    fn read(&self, index: u64) -> Result<Digest, Infallible> {
        let (mut low, mut high) = (0, SIZE_MAX);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if stored_count(middle) <= index {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(self.0[(index - stored_count(low)) as usize])
    }

    fn root(&self, size: u64) -> Digest {
        let Ok(frontier) = Frontier::restore(size, |index| self.read(index));
        frontier.root()
    }
}

fn sizes() -> impl Strategy<Value = u64> {
    (1..=SIZE_MAX, 0..63_u32).prop_map(|(size, shift)| (size >> shift).max(1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn trees_of_every_magnitude_have_paths(
        a in sizes(), b in sizes(), index in any::<u64>(), node in any::<usize>(), bit in 0..256_usize
    ) {
        let tree = Uniform::new();
        let (old, new) = (a.min(b), a.max(b));
        let (old_root, root) = (tree.root(old), tree.root(new));
        let index = index % new;
        let Ok(path) = Plan::inclusion(index, new).unwrap().path(|index| tree.read(index));
        prop_assert!(path.len() <= 63);
        prop_assert!(includes(&root, new, [5; 32], index, &path));
        let Ok(consistency) = Plan::consistency(old, new).unwrap().path(|index| tree.read(index));
        prop_assert!(consistency.len() <= 64);
        prop_assert!(extends((new, &root), (old, &old_root), &consistency));
        for (mut path, is_inclusion) in [(path, true), (consistency, false)] {
            if !path.is_empty() {
                let node = node % path.len();
                path[node][bit / 8] ^= 1 << (bit % 8);
                let passes = if is_inclusion {
                    includes(&root, new, [5; 32], index, &path)
                } else {
                    extends((new, &root), (old, &old_root), &path)
                };
                prop_assert!(!passes);
            }
        }
    }

    #[test]
    fn no_size_index_or_path_is_too_great_to_be_refused(
        sizes in any::<[u64; 3]>(), nodes in 0..70_usize, root in any::<[u8; 32]>()
    ) {
        let [a, b, c] = sizes;
        let path = vec![[0; 32]; nodes];
        prop_assert!(!includes(&root, a, [1; 32], b, &path));
        prop_assert!(!extends((a, &root), (c, &[2; 32]), &path));
    }
}

#[test]
fn a_full_log_takes_no_leaf_and_greater_sizes_have_no_paths() {
    let tree = Uniform::new();
    let Ok(mut frontier) = Frontier::restore(SIZE_MAX, |index| tree.read(index));
    let (before, mut stored) = (frontier.clone(), Vec::new());
    assert_eq!(frontier.push([5; 32], &mut stored), Err(Full));
    assert_eq!((frontier, stored), (before, vec![]));
    assert_eq!(stored_count(SIZE_MAX), u64::MAX - 64);
    assert_eq!(Plan::inclusion(0, SIZE_MAX + 1), None);
    assert_eq!(Plan::consistency(1, u64::MAX), None);
    Frontier::indexes(u64::MAX);
    let path = vec![[0; 32]; 64];
    assert!(root_over([0; 32], 0, u64::MAX, &path).is_some());
    assert!(!extends((u64::MAX, &[0; 32]), (u64::MAX - 1, &[0; 32]), &path));
}

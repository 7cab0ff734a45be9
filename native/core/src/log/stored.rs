//! How the tree is kept: one array of hashes that only grows. FORMAT.md, "Log", "Stored hashes".
//!
//! With each leaf go its hash and those of the nodes that it completes, from below. Such a node never changes again, and
//! every root and path is made of a few of them.
use std::ops::Range;

use super::{empty_root, leaf_hashes, node_hash, whole};
use crate::merkle::shape;
use crate::suite::Digest;

/// Most leaves in a log.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// How many hashes are stored of so many leaves.
pub fn stored_count(size: u64) -> u64 {
    size.saturating_mul(2)
        .saturating_sub(u64::from(size.count_ones()))
}

/// Where the n-th complete node of a level is stored: so many places behind the leaf that completes it.
pub(super) fn stored_at(level: u32, n: u64) -> u64 {
    stored_count(((n + 1) << level) - 1).saturating_add(u64::from(level))
}

/// Which leaf completes a stored node, and the node's level.
pub(super) fn stored_by(index: u64) -> (u64, u32) {
    // Of so many leaves at least twice as many hashes are stored as there are leaves, less one for each level.
    let mut leaf = index / 2;
    while leaf < SIZE_MAX && stored_count(leaf + 1) <= index {
        leaf += 1;
    }
    (leaf, (index - stored_count(leaf)) as u32)
}

/// Where the hashes of the complete trees over a run of leaves are stored, the greatest first.
fn peaks(leaves: Range<u64>) -> impl Iterator<Item = u64> {
    let mut start = leaves.start;
    std::iter::from_fn(move || {
        let level = leaves.end.checked_sub(start)?.checked_ilog2()?;
        let at = stored_at(level, start >> level);
        start += 1 << level;
        Some(at)
    })
}

/// The hash over complete trees side by side, the greatest first.
fn over(peaks: &[Digest]) -> Option<Digest> {
    let (last, greater) = peaks.split_last()?;
    let above = |right: Digest, left: &Digest| node_hash(left, &right);
    Some(greater.iter().rev().fold(*last, above))
}

/// The log is full: it has [`SIZE_MAX`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The right edge of a tree: all that a further leaf or the root needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// Which stored hashes [`Frontier::restore`] reads for a tree of this size, in order: at most 63.
    pub fn indexes(size: u64) -> Vec<u64> {
        peaks(0..size).collect()
    }

    /// The frontier of a stored tree of this size, `read` being given each index.
    pub fn restore<E>(size: u64, read: impl FnMut(u64) -> Result<Digest, E>) -> Result<Frontier, E> {
        let peaks = peaks(0..size).map(read).collect::<Result<_, E>>()?;
        Ok(Frontier { size, peaks })
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes over its greatest complete trees, from the left: what [`Frontier::restore`] reads.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Adds a leaf by its hash. What is to be stored because of it is appended to `stored`.
    pub fn push(&mut self, leaf: Digest, stored: &mut Vec<Digest>) -> Result<(), Full> {
        if self.size >= SIZE_MAX {
            return Err(Full);
        }
        stored.push(leaf);
        let whole = self
            .peaks
            .len()
            .saturating_sub(self.size.trailing_ones() as usize);
        let completed = self.peaks.drain(whole..).rev().fold(leaf, |right, left| {
            let node = node_hash(&left, &right);
            stored.push(node);
            node
        });
        self.peaks.push(completed);
        self.size += 1;
        Ok(())
    }

    /// Adds leaves by their data, side by side as far as they make whole trees. What would be stored is not kept.
    pub fn extend(&mut self, leaves: &[&[u8]]) -> Result<(), Full> {
        if SIZE_MAX - self.size < leaves.len() as u64 {
            return Err(Full);
        }
        let mut later = &leaf_hashes(leaves)[..];
        while let Some(most) = later.len().checked_ilog2() {
            let level = self.size.trailing_zeros().min(most);
            let (tree, rest) = later.split_at(1 << level);
            self.push_whole(level, whole(tree.to_vec()));
            later = rest;
        }
        Ok(())
    }

    /// Adds a whole tree of 2^level leaves; the size must be a multiple of these.
    fn push_whole(&mut self, level: u32, root: Digest) {
        let before = (self.size >> level).trailing_ones() as usize;
        let merged = self.peaks.len().saturating_sub(before);
        let completed = self
            .peaks
            .drain(merged..)
            .rev()
            .fold(root, |right, left| node_hash(&left, &right));
        self.peaks.push(completed);
        self.size += 1 << level;
    }

    /// The tree's root.
    pub fn root(&self) -> Digest {
        over(&self.peaks).unwrap_or_else(empty_root)
    }
}

/// A path of a stored tree, and which stored hashes it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(Vec<Range<u64>>);

impl Plan {
    /// The path of a leaf in the tree of this size; none if the tree has no such leaf.
    pub fn inclusion(index: u64, size: u64) -> Option<Plan> {
        shape::siblings(index, within(size)?).map(Plan)
    }

    /// The path from one size of a tree to a later one; none if the old one is the greater.
    pub fn consistency(old: u64, new: u64) -> Option<Plan> {
        shape::consistency(old, within(new)?).map(Plan)
    }

    /// Which stored hashes [`Plan::path`] reads, in order: at most two for each level of the tree.
    pub fn indexes(&self) -> Vec<u64> {
        self.0.iter().cloned().flat_map(peaks).collect()
    }

    /// The path, `read` being given each index.
    pub fn path<E>(&self, mut read: impl FnMut(u64) -> Result<Digest, E>) -> Result<Vec<Digest>, E> {
        let node = |leaves: &Range<u64>| {
            let peaks: Vec<Digest> = peaks(leaves.clone()).map(&mut read).collect::<Result<_, E>>()?;
            Ok(over(&peaks).unwrap_or_else(empty_root))
        };
        self.0.iter().map(node).collect()
    }
}

fn within(size: u64) -> Option<u64> {
    (size <= SIZE_MAX).then_some(size)
}

//! The shape of an RFC 6962 tree, whatever it is hashed with: it follows from indexes and sizes alone.
use std::ops::Range;

use crate::suite::Digest;

/// Where a tree over so many leaves splits: the largest power of two below it.
fn split(count: u64) -> u64 {
    1 << count.saturating_sub(1).checked_ilog2().unwrap_or(0)
}

/// The leaves under each node of a leaf's path, from its sibling up to the root's child (RFC 6962, section 2.1.1).
pub(crate) fn siblings(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    let mut under = (index < size).then_some(0..size)?;
    let mut path = Vec::new();
    while under.end - under.start > 1 {
        let middle = under.start + split(under.end - under.start);
        if index < middle {
            path.push(middle..under.end);
            under.end = middle;
        } else {
            path.push(under.start..middle);
            under.start = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// The leaves under each node of a consistency proof (RFC 6962, section 2.1.2). From an empty tree, and from a tree to
/// itself, there are none.
pub(crate) fn consistency(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    let mut under = (old <= new).then_some(0..new)?;
    let mut path = Vec::new();
    while old > 0 && under.end != old {
        let middle = under.start + split(under.end - under.start);
        if old <= middle {
            path.push(middle..under.end);
            under.end = middle;
        } else {
            path.push(under.start..middle);
            under.start = middle;
        }
    }
    // The old root itself is known to whoever checks.
    if under.start > 0 {
        path.push(under);
    }
    path.reverse();
    Some(path)
}

/// The root that a leaf's path leads to, if the path is as long as index and size ask (RFC 9162, section 2.1.3.2).
pub(crate) fn climb(
    leaf: Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    node: impl Fn(&Digest, &Digest) -> Digest,
) -> Option<Digest> {
    let mut way = Way::new(index, size)?;
    let mut hash = leaf;
    for sibling in path {
        hash = match way.up()? {
            Side::Left => node(sibling, &hash),
            Side::Right => node(&hash, sibling),
        };
    }
    way.is_over().then_some(hash)
}

/// On which side a node's sibling stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// The way from a leaf up to the root.
pub(crate) struct Way {
    at: u64,
    last: u64,
}

impl Way {
    pub(crate) fn new(index: u64, size: u64) -> Option<Way> {
        let last = size.checked_sub(1)?;
        (index <= last).then_some(Way { at: index, last })
    }

    /// From the root of the greatest tree that ends with this leaf.
    pub(crate) fn at_peak(mut self) -> Way {
        let levels = self.at.trailing_ones();
        self.rise(levels);
        self
    }

    /// Climbs to the next parent, and says where the sibling stood; nothing at the root.
    pub(crate) fn up(&mut self) -> Option<Side> {
        if self.is_over() {
            return None;
        }
        let side = if self.at & 1 == 1 || self.at == self.last {
            // The last node of its level moves up as it is, until it has a sibling.
            self.rise(self.at.trailing_zeros());
            Side::Left
        } else {
            Side::Right
        };
        self.rise(1);
        Some(side)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.last == 0
    }

    fn rise(&mut self, levels: u32) {
        self.at = self.at.checked_shr(levels).unwrap_or(0);
        self.last = self.last.checked_shr(levels).unwrap_or(0);
    }
}

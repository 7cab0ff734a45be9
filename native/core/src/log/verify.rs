//! Checking paths. Nothing here is shared with making them but the shape of a tree.
use super::{empty_root, node_hash};
use crate::merkle::shape::{Side, Way, climb};
use crate::suite::Digest;

/// The root of the tree of this size that has this leaf at this index, by this path (RFC 9162, section 2.1.3.2). None
/// if the path is not as long as index and size ask.
pub fn root_over(leaf: Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    climb(leaf, index, size, path, node_hash)
}

/// Whether the tree of this size and root has this leaf at this index.
pub fn includes(root: &Digest, size: u64, leaf: Digest, index: u64, path: &[Digest]) -> bool {
    root_over(leaf, index, size, path).as_ref() == Some(root)
}

/// Whether the new tree begins with the leaves of the old one (RFC 9162, section 2.1.4.2). Each is a size and a root.
pub fn extends(new: (u64, &Digest), old: (u64, &Digest), path: &[Digest]) -> bool {
    match old.0 {
        0 => path.is_empty() && *old.1 == empty_root() && (new.0 > 0 || old.1 == new.1),
        size if size == new.0 => path.is_empty() && old.1 == new.1,
        size => roots_over(size, old.1, new.0, path).is_some_and(|(a, b)| (&a, &b) == (old.1, new.1)),
    }
}

/// The roots of both trees by this path.
fn roots_over(old: u64, root: &Digest, new: u64, path: &[Digest]) -> Option<(Digest, Digest)> {
    // A whole tree is left out of the path: its root is known.
    let (peak, path) = if old.is_power_of_two() {
        (root, path)
    } else {
        path.split_first()?
    };
    let mut way = Way::new(old.checked_sub(1)?, new)?.at_peak();
    let (mut of_old, mut of_new) = (*peak, *peak);
    for sibling in path {
        match way.up()? {
            Side::Left => {
                of_old = node_hash(sibling, &of_old);
                of_new = node_hash(sibling, &of_new);
            }
            Side::Right => of_new = node_hash(&of_new, sibling),
        }
    }
    way.is_over().then_some((of_old, of_new))
}

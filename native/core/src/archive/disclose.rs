//! A container that shows some of its bodies, and of the others only their commitments.
use crate::block::{Body, Container, Entry, Packing, pack};

/// Which bodies show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disclose<'a> {
    /// All that are there.
    All,
    /// Those at these positions, in ascending order.
    At(&'a [u64]),
}

impl Disclose<'_> {
    fn shows(&self, n: u64) -> bool {
        match self {
            Disclose::All => true,
            Disclose::At(positions) => positions.binary_search(&n).is_ok(),
        }
    }
}

/// The same container with only these bodies. Nothing that is hashed into the chain changes.
pub fn disclose(container: &Container<'_>, disclose: Disclose<'_>) -> Vec<u8> {
    let first = container.header().first;
    let hashes = container.hashes().iter().zip(container.ids()).enumerate();
    let entries: Vec<Entry<'_>> = hashes
        .map(|(i, (hash, id))| Entry {
            frame: container.frame(i),
            hash: *hash,
            id: *id,
            body: match container.body(i) {
                Body::Shown(body) if disclose.shows(first.saturating_add(i as u64)) => Some(body),
                _ => None,
            },
        })
        .collect();
    pack(&Packing {
        kind: container.kind(),
        genesis_record: container.genesis_record(),
        header: container.header().clone(),
        hash: *container.hash(),
        seams: *container.seams(),
        entries: &entries,
    })
}

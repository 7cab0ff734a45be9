//! Events that stand one after the other in a file, and what stands at their edges.

use std::ops::Range;

use super::record::Entry;
use crate::suite::Digest;

/// A run of events: where their lines are, and what links them to the events around.
#[derive(Clone, Default)]
pub(super) struct Stretch {
    /// Their positions.
    pub events: Range<u64>,
    /// Their lines, with the line ends.
    pub bytes: Range<u64>,
    /// The three events before, as far as there are so many.
    pub before: [Option<Link>; 3],
    /// The event hashes of the three behind, likewise.
    pub after: [Option<Digest>; 3],
}

/// What other events are linked with.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub hash: Digest,
    /// The id, or the provisional one.
    pub id: Digest,
}

impl Stretch {
    /// No event yet, behind these.
    pub fn behind(before: &[Option<Link>; 3], first: u64, at: u64) -> Self {
        Self {
            events: first..first,
            bytes: at..at,
            before: *before,
            after: [None; 3],
        }
    }

    /// One event more, whose line ends there.
    pub fn add(&mut self, end: u64) {
        self.events.end += 1;
        self.bytes.end = end;
    }

    /// Takes note of an event behind, if it is one of the next three.
    pub fn followed_by(&mut self, n: u64, hash: Digest) -> bool {
        let ahead = n
            .checked_sub(self.events.end)
            .and_then(|ahead| usize::try_from(ahead).ok());
        let room = ahead.and_then(|ahead| self.after.get_mut(ahead));
        room.map(|room| *room = Some(hash)).is_some()
    }
}

impl Entry {
    pub fn link(&self) -> Link {
        Link {
            hash: self.hash,
            id: self.id,
        }
    }
}

//! What a fault is, and keeping the lowest ones.
use crate::suite::Digest;

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The flow's id.
    pub flow: String,
    /// The lowest position that it concerns.
    pub position: u64,
    /// The height of the block that records it, if one does.
    pub block: Option<u64>,
    /// What does not hold.
    pub class: FaultClass,
    /// What is recorded.
    pub recorded: Datum,
    /// What it should be.
    pub recomputed: Datum,
}

/// A value in a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum {
    /// There is nothing to show.
    None,
    /// A hash.
    Digest(Digest),
    /// A position, count, time, flag or offset.
    Integer(i64),
}

impl From<Digest> for Datum {
    fn from(digest: Digest) -> Datum {
        Datum::Digest(digest)
    }
}

impl From<i64> for Datum {
    fn from(integer: i64) -> Datum {
        Datum::Integer(integer)
    }
}

impl From<u64> for Datum {
    fn from(integer: u64) -> Datum {
        Datum::Integer(i64::try_from(integer).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Datum {
    fn from(flag: bool) -> Datum {
        Datum::Integer(i64::from(flag))
    }
}

/// What does not hold; at one position they are reported in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultClass {
    /// The stored bytes could not be read.
    Read,
    /// Bytes that are not of format 1.
    Format,
    /// The genesis is not that of the flow.
    Genesis,
    /// A block is missing, doubled or out of place.
    Height,
    /// Events are missing, doubled or out of place.
    Position,
    /// Salt or body, against the commitment.
    Commitment,
    /// A body is not there, but should be.
    BodyMissing,
    /// A field or the commitment, against the event hash.
    EventHash,
    /// The late flag.
    Late,
    /// `recorded_at` fell.
    RecordedAt,
    /// `sealed_at` fell, or is before `recorded_at`.
    SealedAt,
    /// The epoch fell.
    Epoch,
    /// The block's least and greatest `when`.
    WhenRange,
    /// The link to the events around.
    Id,
    /// The link of an unsealed event to the events before.
    Provisional,
    /// The Merkle root over the ids.
    Root,
    /// The header, against the block hash.
    BlockHash,
    /// The hash of the block before.
    Previous,
    /// What stands on the other side of the block's edges.
    Seam,
    /// A closing that is none, or something behind it.
    Close,
    /// Blocks or events that should be there are not.
    Missing,
    /// The store-wide log, against what is stored.
    Log,
}

impl FaultClass {
    /// All classes, in their order.
    pub const ALL: [FaultClass; 22] = [
        FaultClass::Read,
        FaultClass::Format,
        FaultClass::Genesis,
        FaultClass::Height,
        FaultClass::Position,
        FaultClass::Commitment,
        FaultClass::BodyMissing,
        FaultClass::EventHash,
        FaultClass::Late,
        FaultClass::RecordedAt,
        FaultClass::SealedAt,
        FaultClass::Epoch,
        FaultClass::WhenRange,
        FaultClass::Id,
        FaultClass::Provisional,
        FaultClass::Root,
        FaultClass::BlockHash,
        FaultClass::Previous,
        FaultClass::Seam,
        FaultClass::Close,
        FaultClass::Missing,
        FaultClass::Log,
    ];

    /// The class's stable name.
    pub fn name(self) -> &'static str {
        match self {
            FaultClass::Read => "read",
            FaultClass::Format => "format",
            FaultClass::Genesis => "genesis",
            FaultClass::Height => "height",
            FaultClass::Position => "position",
            FaultClass::Commitment => "commitment",
            FaultClass::BodyMissing => "body_missing",
            FaultClass::EventHash => "event_hash",
            FaultClass::Late => "late",
            FaultClass::RecordedAt => "recorded_at",
            FaultClass::SealedAt => "sealed_at",
            FaultClass::Epoch => "epoch",
            FaultClass::WhenRange => "when_range",
            FaultClass::Id => "id",
            FaultClass::Provisional => "provisional",
            FaultClass::Root => "root",
            FaultClass::BlockHash => "block_hash",
            FaultClass::Previous => "previous",
            FaultClass::Seam => "seam",
            FaultClass::Close => "close",
            FaultClass::Missing => "missing",
            FaultClass::Log => "log",
        }
    }
}

/// A fault of which the position is an offset from something, until it is known from what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub at: u64,
    pub class: FaultClass,
    pub block: Option<u64>,
    pub recorded: Datum,
    pub recomputed: Datum,
}

/// Faults found so far: all are counted, the lowest `most` are kept.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    list: Vec<Found>,
    count: u64,
    /// A bit for each class that there is.
    classes: u32,
    most: usize,
    forgotten: bool,
}

impl Faults {
    pub fn new(most: usize) -> Faults {
        Faults {
            list: Vec::new(),
            count: 0,
            classes: 0,
            most,
            forgotten: false,
        }
    }

    pub fn push(&mut self, found: Found) {
        self.count += 1;
        self.classes |= 1 << found.class as u32;
        self.list.push(found);
        if self.list.len() >= self.most.saturating_mul(2).saturating_add(1024) {
            self.keep_lowest();
        }
    }

    /// Takes over faults found elsewhere, their positions moved on by `base`.
    pub fn take(&mut self, other: Faults, base: u64, block: Option<u64>) {
        let dropped = other.count - other.list.len() as u64;
        for found in other.list {
            self.push(Found {
                at: found.at.saturating_add(base),
                block,
                ..found
            });
        }
        self.count += dropped;
        self.classes |= other.classes;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn has(&self, class: FaultClass) -> bool {
        self.classes & (1 << class as u32) != 0
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.list.len()
    }

    /// Keeps their number and classes alone.
    pub fn forget(&mut self) {
        self.list = Vec::new();
        self.forgotten = true;
    }

    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Whether none that lies there or behind can be among the lowest.
    pub fn is_full_before(&self, position: u64) -> bool {
        let before = self.list.iter().filter(|found| found.at < position);
        before.count() >= self.most
    }

    pub fn into_sorted(mut self) -> Vec<Found> {
        self.keep_lowest();
        self.list
    }

    fn keep_lowest(&mut self) {
        self.list.sort_by_key(|found| (found.at, found.class));
        self.list.truncate(self.most);
    }
}

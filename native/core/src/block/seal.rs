//! Sealing a run of events into a block, and packing what is not sealed yet.
use std::ops::DerefMut;

use super::pack::pack_in;
use super::{BODY_UNITS_MAX, COUNT_MAX, Container, Entry, Header, Kind, Packing, Seams, pack};
use crate::event::{Event, decode_salted_body};
use crate::genesis::Genesis;
use crate::merkle;
use crate::suite::{Digest, UNIT};
use crate::wire::{LIMIT, Malformed};

/// A run of settled events whose ids are known, and what the block around them says.
#[derive(Clone, Debug)]
pub struct Sealing<'a> {
    /// The genesis record.
    pub genesis_record: &'a [u8],
    /// The block's number in its flow, from 0.
    pub height: u64,
    /// The position of the first event.
    pub first: u64,
    /// The writer's term.
    pub epoch: u64,
    /// The store's clock.
    pub sealed_at: i64,
    /// The hash of the block before, or G.
    pub previous: Digest,
    /// I of first−3, first−2, first−1; G where there is none.
    pub ids_before: [Digest; 3],
    /// E of first−2, first−1; G where there is none.
    pub hashes_before: [Digest; 2],
    /// E of last+1, last+2, last+3; G in a closing block.
    pub next_hashes: [Digest; 3],
    /// Whether this block closes its flow.
    pub closes: bool,
    /// The events, with their ids.
    pub entries: &'a [Entry<'a>],
}

impl Sealing<'_> {
    /// What stands before the next block: its last three ids, its last two event hashes.
    pub fn edge_behind(&self) -> [Digest; 5] {
        let ids = self.entries.iter().map(|entry| &entry.id);
        let hashes = self.entries.iter().map(|entry| &entry.hash);
        let [third, second, first] = last(self.ids_before.iter().chain(ids));
        let [hash2, hash1] = last(self.hashes_before.iter().chain(hashes));
        [third, second, first, hash2, hash1]
    }
}

fn last<'a, const N: usize>(digests: impl DoubleEndedIterator<Item = &'a Digest>) -> [Digest; N] {
    let mut last = [[0; 32]; N];
    last.iter_mut()
        .rev()
        .zip(digests.rev())
        .for_each(|(to, from)| *to = *from);
    last
}

/// Why a run cannot be sealed or packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// No events, or more than 2²⁰.
    Count,
    /// The genesis record is not of format 1.
    Genesis(Malformed),
    /// A frame is not of format 1.
    Frame {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// A salted body is not of format 1.
    Body {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// `recorded_at` falls, or is after `sealed_at`.
    RecordedAt {
        /// Which event, from 0.
        index: usize,
    },
    /// `$close` elsewhere than at the end of a closing block, or not there.
    Close {
        /// Which event, from 0.
        index: usize,
    },
    /// Height 0, first 1 and previous = G do not come together, or G stands for a hash that must be there.
    Seams,
    /// A time or counter beyond ±(2⁵³−1).
    Range,
}

struct Run {
    when_min: i64,
    when_max: i64,
    recorded_at: i64,
}

/// Seals a run of events into a packed block.
pub fn seal(sealing: &Sealing<'_>) -> Result<Vec<u8>, SealError> {
    seal_in(sealing, |length| vec![0; length])
}

/// The same in room of the caller's, of the length that is asked for: each byte of it is written.
pub fn seal_in<R: DerefMut<Target = [u8]>>(
    sealing: &Sealing<'_>,
    room: impl FnOnce(usize) -> R,
) -> Result<R, SealError> {
    let genesis = Genesis::decode(sealing.genesis_record).map_err(SealError::Genesis)?;
    let digest = genesis.digest();
    let entries = sealing.entries;
    let run = check(entries, sealing.closes)?;
    if run.recorded_at > sealing.sealed_at {
        return Err(SealError::RecordedAt {
            index: entries.len() - 1,
        });
    }
    check_edges(sealing, &digest)?;
    let ids: Vec<Digest> = entries.iter().map(|entry| entry.id).collect();
    let header = Header {
        suite: genesis.suite,
        closes: sealing.closes,
        count: entries.len() as u32,
        height: sealing.height,
        first: sealing.first,
        epoch: sealing.epoch,
        when_min: run.when_min,
        when_max: run.when_max,
        sealed_at: sealing.sealed_at,
        genesis: digest,
        previous: sealing.previous,
        root: merkle::root(genesis.suite, &ids).ok_or(SealError::Count)?,
    };
    let seams = Seams {
        ids: sealing.ids_before,
        hashes: sealing.hashes_before,
        next_hashes: sealing.next_hashes,
    };
    let hash = header.digest();
    let genesis_record = sealing.genesis_record;
    let packing = Packing {
        kind: Kind::Block,
        genesis_record,
        header,
        hash,
        seams,
        entries,
    };
    Ok(pack_in(&packing, room))
}

/// Packs a flow's settled, unsealed events behind its last sealed block. Their `id` is the provisional id.
pub fn pack_tail(
    genesis_record: &[u8],
    previous: Option<&Container<'_>>,
    entries: &[Entry<'_>],
) -> Result<Vec<u8>, SealError> {
    let genesis = Genesis::decode(genesis_record).map_err(SealError::Genesis)?;
    let digest = genesis.digest();
    check(entries, false)?;
    let (height, first, hash) = previous.map_or((0, 1, digest), |block| {
        (block.header().height + 1, block.last() + 1, *block.hash())
    });
    if first.saturating_add(entries.len() as u64 - 1) > LIMIT as u64 {
        return Err(SealError::Range);
    }
    let [_, second, last] = previous.map_or([digest; 3], Container::last_hashes);
    let header = Header {
        suite: genesis.suite,
        closes: false,
        count: entries.len() as u32,
        height,
        first,
        epoch: 0,
        when_min: 0,
        when_max: 0,
        sealed_at: 0,
        genesis: digest,
        previous: hash,
        root: [0; 32],
    };
    let ids = previous.map_or([digest; 3], Container::last_ids);
    let seams = Seams {
        ids,
        hashes: [second, last],
        next_hashes: [[0; 32]; 3],
    };
    Ok(pack(&Packing {
        kind: Kind::Tail,
        genesis_record,
        header,
        hash: [0; 32],
        seams,
        entries,
    }))
}

fn check(entries: &[Entry<'_>], closes: bool) -> Result<Run, SealError> {
    if entries.is_empty() || entries.len() > COUNT_MAX {
        return Err(SealError::Count);
    }
    let mut run = Run {
        when_min: i64::MAX,
        when_max: i64::MIN,
        recorded_at: i64::MIN,
    };
    for (index, entry) in entries.iter().enumerate() {
        let event = Event::decode(entry.frame).map_err(|malformed| SealError::Frame { index, malformed })?;
        if event.closes() != (closes && index + 1 == entries.len()) {
            return Err(SealError::Close { index });
        }
        if event.recorded_at < run.recorded_at {
            return Err(SealError::RecordedAt { index });
        }
        check_body(index, entry.body)?;
        run.recorded_at = event.recorded_at;
        run.when_min = run.when_min.min(event.when);
        run.when_max = run.when_max.max(event.when);
    }
    Ok(run)
}

fn check_body(index: usize, body: Option<&[u8]>) -> Result<(), SealError> {
    let Some(body) = body else { return Ok(()) };
    let malformed = match decode_salted_body(body) {
        Ok(_) if body.len() / UNIT <= BODY_UNITS_MAX as usize => return Ok(()),
        Ok(_) => Malformed::new(16, "body"),
        Err(malformed) => malformed,
    };
    Err(SealError::Body { index, malformed })
}

fn check_edges(sealing: &Sealing<'_>, genesis: &Digest) -> Result<(), SealError> {
    let last = sealing.first.saturating_add(sealing.entries.len() as u64);
    let numbers = [sealing.height, sealing.epoch, sealing.first, last];
    if sealing.first == 0 || numbers.iter().any(|number| *number > LIMIT as u64) {
        return Err(SealError::Range);
    }
    if !(-LIMIT..=LIMIT).contains(&sealing.sealed_at) {
        return Err(SealError::Range);
    }
    let begins = [
        sealing.height == 0,
        sealing.first == 1,
        sealing.previous == *genesis,
    ];
    let together = begins.iter().all(|begin| *begin) || begins.iter().all(|begin| !*begin);
    // G stands for a next event hash in a closing block, where all three are missing, and nowhere else.
    let fillers = sealing.next_hashes.iter().filter(|hash| *hash == genesis).count();
    let filled = fillers == if sealing.closes { 3 } else { 0 };
    if together && filled {
        Ok(())
    } else {
        Err(SealError::Seams)
    }
}

//! Settled events of one flow, one after the other, as a store keeps them until a block takes them. FORMAT.md, "Journal".
use super::{SettledEvent, Stored};
use crate::block::Entry;
use crate::event::FRAME_MAX;
use crate::suite::{Digest, UNIT};
use crate::wire::{Malformed, Reader};

const TAIL: u8 = 2;
const RUN: u8 = 3;

/// A run's first position, and its events.
pub type Run<'a> = (u64, Vec<Unsealed<'a>>);

/// One event of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsealed<'a> {
    /// Its frame.
    pub frame: &'a [u8],
    /// Its event hash.
    pub hash: Digest,
    /// Its provisional id.
    pub provisional: Digest,
    /// Its salted body, if it is there.
    pub body: Option<&'a [u8]>,
}

impl<'a> Unsealed<'a> {
    /// What settling made, with its salted body.
    pub fn new(settled: &'a SettledEvent, body: &'a [u8]) -> Unsealed<'a> {
        Unsealed {
            frame: &settled.frame,
            hash: settled.hash,
            provisional: settled.provisional,
            body: Some(body),
        }
    }

    /// Its euid: nothing of a frame that is too short.
    pub fn euid(&self) -> &'a [u8] {
        self.frame.get(..16).unwrap_or_default()
    }

    /// When it happened.
    pub fn when(&self) -> Option<i64> {
        let bytes = self.frame.get(16..24)?.first_chunk()?;
        Some(i64::from_be_bytes(*bytes))
    }

    /// As a block records it, under its id.
    pub fn entry(&self, id: Digest) -> Entry<'a> {
        Entry {
            frame: self.frame,
            hash: self.hash,
            id,
            body: self.body,
        }
    }

    /// The bytes of its frame and salted body.
    pub fn size(&self) -> usize {
        self.frame.len() + self.body.map_or(0, <[u8]>::len)
    }
}

impl<'a> From<&Unsealed<'a>> for Stored<'a> {
    fn from(event: &Unsealed<'a>) -> Stored<'a> {
        Stored {
            frame: event.frame,
            hash: event.hash,
            provisional: event.provisional,
        }
    }
}

/// How settled events are kept: which of them in one record. A flow's last three stand alone, since what is sealed ends
/// before them: so a block takes whole records.
pub fn records(count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let together = if count > 6 { count - 3 } else { 0 };
    let first = (together > 0).then_some(0..together);
    first.into_iter().chain((together..count).map(|at| at..at + 1))
}

/// The record of events from position `first` on; the salted bodies stand beside it, one after the other.
pub fn encode(first: u64, events: &[Unsealed<'_>]) -> Vec<u8> {
    let frames: usize = events.iter().map(|event| event.frame.len()).sum();
    let mut out = Vec::with_capacity(13 + 69 * events.len() + frames);
    let single = events.len() == 1;
    out.push(if single { TAIL } else { RUN });
    out.extend_from_slice(&first.to_be_bytes());
    if !single {
        out.extend_from_slice(&(events.len() as u32).to_be_bytes());
        out.extend(events.iter().map(|event| (event.frame.len() / UNIT) as u8));
        for event in events {
            let units = event.body.map_or(0, <[u8]>::len) / UNIT;
            out.extend_from_slice(&(units as u32).to_be_bytes());
        }
    }
    events.iter().for_each(|event| out.extend_from_slice(&event.hash));
    events
        .iter()
        .for_each(|event| out.extend_from_slice(&event.provisional));
    events.iter().for_each(|event| out.extend_from_slice(event.frame));
    out
}

/// Reads what `encode` wrote: the position of the first event, and the events. Frames and bodies are not decoded.
pub fn decode<'a>(record: &'a [u8], bodies: Option<&'a [u8]>) -> Result<Run<'a>, Malformed> {
    let mut reader = Reader::new(record);
    match reader.u8("record")? {
        TAIL => {
            let first = reader.counter("n")?;
            let event = Unsealed {
                hash: *reader.digest("hash")?,
                provisional: *reader.digest("provisional")?,
                frame: reader.take(record.len() - reader.at(), "frame")?,
                body: bodies,
            };
            Ok((first, vec![event]))
        }
        RUN => several(&mut reader, bodies),
        _ => Err(Malformed::new(0, "record")),
    }
}

fn several<'a>(reader: &mut Reader<'a>, bodies: Option<&'a [u8]>) -> Result<Run<'a>, Malformed> {
    let first = reader.counter("n")?;
    let count = reader.u32("count")? as usize;
    if count < 2 {
        return reader.fail("count");
    }
    let frame_units = reader.take(count, "frame units")?;
    let (body_units, _) = reader
        .take(count.saturating_mul(4), "body units")?
        .as_chunks::<4>();
    let (hashes, _) = reader.take(count.saturating_mul(32), "hashes")?.as_chunks::<32>();
    let (provisionals, _) = reader
        .take(count.saturating_mul(32), "provisionals")?
        .as_chunks::<32>();
    let mut bodies = Reader::new(bodies.unwrap_or_default());
    let mut events = Vec::with_capacity(count);
    let sizes = frame_units.iter().zip(body_units);
    for ((frame, body), (hash, provisional)) in sizes.zip(hashes.iter().zip(provisionals)) {
        let frame = usize::from(*frame) * UNIT;
        if frame > FRAME_MAX {
            return reader.fail("frame units");
        }
        events.push(Unsealed {
            frame: reader.take(frame, "frame")?,
            hash: *hash,
            provisional: *provisional,
            body: Some(bodies.take(u32::from_be_bytes(*body) as usize * UNIT, "body")?),
        });
    }
    reader.end()?;
    bodies.end()?;
    Ok((first, events))
}

/// What may go into one block.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most events.
    pub events: usize,
    /// No further event once there are so many bytes of frames and salted bodies.
    pub bytes: usize,
    /// Runs that begin up to this position are taken whole, or not at all.
    pub whole: u64,
}

/// Some events of a flow's runs, from the first on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The events.
    pub sealed: Vec<Unsealed<'a>>,
    /// The hashes of up to three events behind them.
    pub behind: Vec<Digest>,
    /// What is left of a run that was not taken whole.
    pub rest: Option<Run<'a>>,
}

/// All events of the runs.
pub fn all<'a>(runs: &[Run<'a>]) -> Part<'a> {
    let sealed = runs.iter().flat_map(|(_, events)| events).copied().collect();
    Part {
        sealed,
        behind: Vec::new(),
        rest: None,
    }
}

/// As many events as the limits let; one at least, or the first run if it must be taken whole.
pub fn part<'a>(runs: &[Run<'a>], limits: &Limits) -> Part<'a> {
    let mut part = all(&[]);
    let mut bytes = 0;
    let mut behind: &[Unsealed<'a>] = &[];
    let mut runs = runs.iter();
    for (first, events) in runs.by_ref() {
        let count = taken(events, limits, part.sealed.len(), &mut bytes);
        let count = match count < events.len() && *first <= limits.whole {
            true if part.sealed.is_empty() => events.len(),
            true => 0,
            false => count,
        };
        let (own, left) = events.split_at_checked(count).unwrap_or((events, &[]));
        part.sealed.extend_from_slice(own);
        if !left.is_empty() {
            part.rest = (count > 0).then(|| (first + count as u64, left.to_vec()));
            behind = left;
            break;
        }
    }
    let behind = behind.iter().chain(runs.flat_map(|(_, events)| events));
    part.behind = behind.take(3).map(|event| event.hash).collect();
    part
}

/// How many of these events still fit behind `before` others, which have so many bytes.
fn taken(events: &[Unsealed<'_>], limits: &Limits, before: usize, bytes: &mut usize) -> usize {
    let fitting = events.iter().take(limits.events.saturating_sub(before));
    let fitting = fitting.take_while(|event| {
        let fits = *bytes == 0 || *bytes < limits.bytes;
        *bytes += event.size();
        fits
    });
    fitting.count()
}

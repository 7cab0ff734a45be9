//! The lines of an interchange file in their order: the flow; events by n, each block directly after its last event;
//! checkpoints. The first line that does not fit ends the reading.

use std::ops::Range;

use super::line::{self, Kind, Where};
use crate::event::{Event, salted_body};
use crate::genesis::{Genesis, WINDOW};
use crate::suite::{Digest, Suite};
use crate::verify::{Datum, Fault, FaultClass};

/// An interchange file, as far as its order holds.
#[derive(Default)]
pub(super) struct Lines {
    pub header: Option<Header>,
    /// Events 1, 2, 3 …
    pub events: Vec<Entry>,
    pub blocks: Vec<Block>,
    pub checkpoints: Vec<String>,
    /// How many lines were read before the one that breaks the order, or that is none.
    pub read: u64,
}

pub(super) struct Header {
    pub genesis: Genesis,
    /// G as the file records it.
    pub digest: Digest,
    pub closed: bool,
}

pub(super) struct Entry {
    pub frame: Vec<u8>,
    pub hash: Digest,
    /// The id, or the provisional one.
    pub id: Digest,
    pub sealed: bool,
    pub body: Option<Vec<u8>>,
}

pub(super) struct Block {
    pub line: line::Block,
    /// Which of the events.
    pub events: Range<usize>,
}

/// Where a file stops to be one.
pub(super) struct Break {
    pub position: u64,
    pub class: FaultClass,
    pub recorded: Datum,
    pub recomputed: Datum,
}

impl Break {
    fn format(position: u64) -> Self {
        Self {
            position,
            class: FaultClass::Format,
            recorded: Datum::None,
            recomputed: Datum::None,
        }
    }

    fn missing(position: u64) -> Self {
        Self {
            class: FaultClass::Missing,
            ..Self::format(position)
        }
    }

    fn position(position: u64, recorded: u64, recomputed: u64) -> Self {
        Self {
            class: FaultClass::Position,
            recorded: recorded.into(),
            recomputed: recomputed.into(),
            ..Self::format(position)
        }
    }

    pub(super) fn fault(self, flow: &str) -> Fault {
        let Self {
            position,
            class,
            recorded,
            recomputed,
        } = self;
        Fault {
            flow: flow.to_owned(),
            position,
            block: None,
            class,
            recorded,
            recomputed,
        }
    }
}

impl Lines {
    /// Reads on until the end or the first line that does not fit.
    pub fn read(&mut self, file: &[u8]) -> Result<(), Break> {
        for line in file
            .strip_suffix(b"\n")
            .unwrap_or(file)
            .split(|byte| *byte == b'\n')
        {
            self.line(line)?;
            self.read += 1;
        }
        Ok(())
    }

    /// Whether the file may end here.
    pub fn check_end(&self) -> Result<(), Break> {
        let missing = match self.find(true) {
            // An id is given by a block, and none has followed.
            Some(sealed) => Some(sealed),
            // A flow begins with its first event.
            None if self.events.is_empty() => Some(1),
            // A block waits for three events behind it: they were cut off.
            None => self.blind_from().map(|_| self.next()),
        };
        missing.map_or(Ok(()), |n| Err(Break::missing(n)))
    }

    /// The first sealed position whose id cannot be recomputed, since too few events follow it here.
    pub fn blind_from(&self) -> Option<u64> {
        let last = self.blocks.last()?;
        let known = self.events.len().saturating_sub(3);
        (!last.line.closes && known < self.sealed()).then_some(known as u64 + 1)
    }

    /// The events behind the last block, up to one that bears an id.
    pub fn open_events(&self) -> Range<usize> {
        self.sealed()..self.find(true).map_or(self.events.len(), |n| n as usize - 1)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Break> {
        let text = String::from_utf8_lossy(line);
        let kind = Kind::of(&text);
        // Of what is wrong with a block the first position is named, as everywhere.
        let wrong = || {
            Break::format(if kind == Some(Kind::Block) {
                self.first()
            } else {
                self.next()
            })
        };
        let text = std::str::from_utf8(line).map_err(|_| wrong())?;
        match (kind, &self.header) {
            (Some(Kind::Header), None) => {
                self.header = Some(line::read(text).and_then(Header::of_line).ok_or_else(wrong)?);
                Ok(())
            }
            (Some(Kind::Checkpoint), Some(_)) => {
                let line: line::Checkpoint = line::read(text).ok_or_else(wrong)?;
                self.checkpoints.push(line.checkpoint.0.into_owned());
                Ok(())
            }
            (Some(Kind::Event), Some(_)) if self.checkpoints.is_empty() => {
                let line = line::read(text).ok_or_else(wrong)?;
                self.event(line)
            }
            (Some(Kind::Block), Some(_)) if self.checkpoints.is_empty() => {
                let line = line::read(text).ok_or_else(wrong)?;
                self.block(line)
            }
            _ => Err(wrong()),
        }
    }

    fn event(&mut self, line: line::Event) -> Result<(), Break> {
        let n = self.next();
        if line.n.0 != n {
            return Err(Break::position(n, line.n.0, n));
        }
        let entry = Entry::of_line(&line).ok_or(Break::format(n))?;
        self.events.push(entry);
        Ok(())
    }

    fn block(&mut self, line: line::Block) -> Result<(), Break> {
        let (first, next) = (self.first(), self.next());
        if line.first.0 != first || first == next {
            return Err(Break::position(first, line.first.0, first));
        }
        let (count, found) = (u64::from(line.count), next - first);
        if count != found {
            return Err(Break::position(first + count.min(found), count, found));
        }
        match self.find(false) {
            Some(open) => return Err(Break::format(open)),
            None => self.blocks.push(Block {
                line,
                events: self.sealed()..self.events.len(),
            }),
        }
        Ok(())
    }

    /// How many events stand in blocks.
    pub fn sealed(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.events.end)
    }

    /// The position that is read next.
    fn next(&self) -> u64 {
        self.events.len() as u64 + 1
    }

    /// The position with which the next block begins.
    fn first(&self) -> u64 {
        self.sealed() as u64 + 1
    }

    /// The first event behind the last block that bears an id, or that bears none.
    fn find(&self, sealed: bool) -> Option<u64> {
        let behind = self.events.get(self.sealed()..).unwrap_or_default();
        let at = behind.iter().position(|event| event.sealed == sealed)?;
        Some(self.first() + at as u64)
    }
}

impl Header {
    fn of_line(line: line::Header) -> Option<Self> {
        let suite = Suite::from_name(&line.suite.0)?;
        if line.format.0 != super::FORMAT || line.window != WINDOW {
            return None;
        }
        let genesis = Genesis::new(suite, line.created_at.0, line.nonce.0, &line.flow.0).ok()?;
        Some(Self {
            genesis,
            digest: line.genesis.0,
            closed: line.closed,
        })
    }
}

impl Entry {
    /// None if the event breaks a rule of its fields, or has a salt without a body.
    fn of_line(line: &line::Event) -> Option<Self> {
        let event = Event {
            euid: line.euid.0,
            when: line.when.0,
            recorded_at: line.recorded_at.0,
            commitment: line.commitment.0,
            late: line.late,
            revision: line.revision,
            kind: &line.kind.0,
            version: line.version,
            place: Where::to_event(line.r#where.as_ref()),
            who: line.who.as_ref().map(|who| &*who.0),
        };
        let body = match (&line.salt, &line.body) {
            (Some(salt), Some(body)) => Some(salted_body(&salt.0, &body.0)),
            (None, None) => None,
            _ => return None,
        };
        let (id, sealed) = match (line.id, line.provisional) {
            (Some(id), None) => (id.0, true),
            (None, Some(provisional)) => (provisional.0, false),
            _ => return None,
        };
        let mut frame = Vec::new();
        event.encode(&mut frame).ok()?;
        Some(Self {
            frame,
            hash: line.hash.0,
            id,
            sealed,
            body,
        })
    }
}

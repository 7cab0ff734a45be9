//! The lines of a file in their order: the flow; events by n, each block directly after its last event;
//! checkpoints. The first line that does not fit ends the reading.

use std::ops::Range;

use rayon::prelude::*;

use super::line::{self, Kind};
use super::record::{Entry, Header, Line};
use crate::verify::{Control, Datum, Fault, FaultClass};

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

/// How many lines are read at once, on all cores.
const CHUNK: usize = 4096;

impl Lines {
    /// Reads on until the end or the first line that does not fit.
    pub fn read(&mut self, file: &[u8], control: &dyn Control) -> Result<(), Break> {
        let file = file.strip_suffix(b"\n").unwrap_or(file);
        let lines: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
        for chunk in lines.chunks(CHUNK).take_while(|_| !control.stopped()) {
            let read: Vec<_> = chunk.par_iter().map(|line| Line::read(line)).collect();
            for line in read {
                self.take(line)?;
                self.read += 1;
            }
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

    fn take(&mut self, line: Result<Line, Option<Kind>>) -> Result<(), Break> {
        let (begun, ends) = (self.header.is_some(), !self.checkpoints.is_empty());
        match line {
            Ok(Line::Header(header)) if !begun => self.header = Some(header),
            Ok(Line::Event(n, entry)) if begun && !ends => return self.event(n, entry),
            Ok(Line::Block(block)) if begun && !ends => return self.block(block),
            Ok(Line::Checkpoint(note)) if begun => self.checkpoints.push(note),
            // Of what is wrong with a block the first position is named, as everywhere.
            Ok(Line::Block(_)) | Err(Some(Kind::Block)) => return Err(Break::format(self.first())),
            _ => return Err(Break::format(self.next())),
        }
        Ok(())
    }

    fn event(&mut self, n: u64, entry: Entry) -> Result<(), Break> {
        let next = self.next();
        if n != next {
            return Err(Break::position(next, n, next));
        }
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

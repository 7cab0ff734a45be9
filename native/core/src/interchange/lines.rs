//! The lines of a file in their order: the flow; events by n, each block directly after its last event;
//! checkpoints. The first line that does not fit ends the reading.
//!
//! Of the events no more is kept than what stands at the edges of blocks, and where their lines are: a file may be
//! greater than memory.

use std::ops::Range;

use rayon::prelude::*;

use super::line::{self, Kind};
use super::record::{Entry, Header, Line};
use super::stretch::{Link, Stretch};
use crate::verify::{Control, Datum, Fault, FaultClass, ReadAt};

/// An interchange file, as far as its order holds.
#[derive(Default)]
pub(super) struct Lines {
    pub header: Option<Header>,
    pub blocks: Vec<Block>,
    /// The events behind the last block.
    open: Stretch,
    /// The first of these that bears an id, and where its line begins.
    sealed: Option<(u64, u64)>,
    /// The first of these that bears none.
    unsealed: Option<u64>,
    /// The last three events.
    last: [Option<Link>; 3],
    pub checkpoints: Checkpoints,
    /// How many lines were read before the one that breaks the order, or that is none.
    pub read: u64,
}

pub(super) struct Block {
    pub line: line::Block,
    pub events: Stretch,
}

/// The checkpoints' lines, one after the other.
#[derive(Default)]
pub(super) struct Checkpoints {
    pub count: u64,
    pub bytes: Range<u64>,
}

/// Where a file stops to be one.
pub(super) struct Break {
    pub position: u64,
    pub class: FaultClass,
    pub recorded: Datum,
    pub recomputed: Datum,
}

impl Break {
    fn of(class: FaultClass, position: u64) -> Self {
        Self {
            position,
            class,
            recorded: Datum::None,
            recomputed: Datum::None,
        }
    }

    fn format(position: u64) -> Self {
        Self::of(FaultClass::Format, position)
    }

    fn position(position: u64, recorded: u64, recomputed: u64) -> Self {
        Self {
            recorded: recorded.into(),
            recomputed: recomputed.into(),
            ..Self::of(FaultClass::Position, position)
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

/// So many bytes are read at once, and their lines on all cores; more if a line is longer.
pub(super) const CHUNK: u64 = 1 << 22;

impl Lines {
    /// Reads on until the end or the first line that does not fit, `chunk` bytes at once.
    pub fn read<F: ReadAt + ?Sized>(
        &mut self,
        file: &F,
        chunk: u64,
        control: &dyn Control,
    ) -> Result<(), Break> {
        let (mut at, mut size, mut buffer) = (0, chunk, Vec::new());
        while !control.stopped() {
            let end = file.length().min(at + size);
            let bytes = file
                .read_at(at..end, &mut buffer)
                .map_err(|_| Break::of(FaultClass::Read, self.next()))?;
            let whole = if end == file.length() {
                bytes
            } else {
                whole_lines(bytes)
            };
            if !whole.is_empty() || end == file.length() {
                self.take_all(whole, at)?;
            }
            at += whole.len() as u64;
            if end == file.length() {
                break;
            }
            size = if whole.is_empty() { size * 2 } else { chunk };
        }
        Ok(())
    }

    fn take_all(&mut self, text: &[u8], mut at: u64) -> Result<(), Break> {
        let lines: Vec<&[u8]> = split(text).collect();
        let read: Vec<_> = lines.par_iter().map(|line| Line::read(line)).collect();
        for (line, bytes) in read.into_iter().zip(lines) {
            let end = at + bytes.len() as u64 + 1;
            self.take(line, at..end)?;
            self.read += 1;
            at = end;
        }
        Ok(())
    }

    /// Whether the file may end here.
    pub fn check_end(&self) -> Result<(), Break> {
        let missing = match self.sealed {
            // An id is given by a block, and none has followed.
            Some((sealed, _)) => Some(sealed),
            // A flow begins with its first event.
            None if self.next() == 1 => Some(1),
            // A block waits for three events behind it: they were cut off.
            None => self.blind_from().map(|_| self.next()),
        };
        missing.map_or(Ok(()), |n| Err(Break::of(FaultClass::Missing, n)))
    }

    /// The first sealed position whose id cannot be recomputed, since too few events follow it here.
    pub fn blind_from(&self) -> Option<u64> {
        let last = self.blocks.last()?;
        let known = (self.next() - 1).saturating_sub(3);
        (!last.line.closes && known + 1 < self.first()).then_some(known + 1)
    }

    /// The events behind the last block, up to one that bears an id.
    pub fn tail(&self) -> Option<Stretch> {
        let mut tail = self.open.clone();
        if let Some((n, at)) = self.sealed {
            (tail.events.end, tail.bytes.end) = (n, at);
        }
        (!tail.events.is_empty()).then_some(tail)
    }

    fn take(&mut self, line: Result<Line, Option<Kind>>, bytes: Range<u64>) -> Result<(), Break> {
        let (begun, ends) = (self.header.is_some(), self.checkpoints.count > 0);
        match line {
            Ok(Line::Header(header)) if !begun => self.begin(header, bytes.end),
            Ok(Line::Event(n, entry)) if begun && !ends => return self.event(n, &entry, bytes),
            Ok(Line::Block(block)) if begun && !ends => return self.block(block, bytes.end),
            Ok(Line::Checkpoint(_)) if begun => self.checkpoints.add(bytes),
            // Of what is wrong with a block the first position is named, as everywhere.
            Ok(Line::Block(_)) | Err(Some(Kind::Block)) => return Err(Break::format(self.first())),
            _ => return Err(Break::format(self.next())),
        }
        Ok(())
    }

    fn begin(&mut self, header: Header, at: u64) {
        self.header = Some(header);
        self.open = Stretch::behind(&self.last, 1, at);
    }

    fn event(&mut self, n: u64, entry: &Entry, bytes: Range<u64>) -> Result<(), Break> {
        let next = self.next();
        if n != next {
            return Err(Break::position(next, n, next));
        }
        if entry.sealed {
            self.sealed.get_or_insert((n, bytes.start));
        } else {
            self.unsealed.get_or_insert(n);
        }
        self.open.add(bytes.end);
        for block in self.blocks.iter_mut().rev() {
            if !block.events.followed_by(n, entry.hash) {
                break;
            }
        }
        let [_, second, last] = self.last;
        self.last = [second, last, Some(entry.link())];
        Ok(())
    }

    fn block(&mut self, line: line::Block, end: u64) -> Result<(), Break> {
        let (first, next) = (self.first(), self.next());
        if line.first.0 != first || first == next {
            return Err(Break::position(first, line.first.0, first));
        }
        let (count, found) = (u64::from(line.count), next - first);
        if count != found {
            return Err(Break::position(first + count.min(found), count, found));
        }
        if let Some(open) = self.unsealed {
            return Err(Break::format(open));
        }
        self.sealed = None;
        let events = std::mem::replace(&mut self.open, Stretch::behind(&self.last, next, end));
        self.blocks.push(Block { line, events });
        Ok(())
    }

    /// The position that is read next.
    fn next(&self) -> u64 {
        self.open.events.end.max(1)
    }

    /// The position with which the next block begins.
    fn first(&self) -> u64 {
        self.open.events.start.max(1)
    }
}

impl Checkpoints {
    fn add(&mut self, line: Range<u64>) {
        if self.count == 0 {
            self.bytes.start = line.start;
        }
        self.count += 1;
        self.bytes.end = line.end;
    }
}

/// Lines without their ends; the last may have none.
pub(super) fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n")
        .unwrap_or(text)
        .split(|byte| *byte == b'\n')
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    bytes.get(..end).unwrap_or_default()
}

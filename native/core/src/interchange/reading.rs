//! An interchange file as packed containers that hold what the file *records*, so that the one verification names what
//! is wrong with it. What cannot be packed is a fault here, and ends the reading; the blocks that end before it are
//! packed, and so are the unsealed events.
//!
//! The file is read twice: first its lines in their order, then each container's when it is asked for. So no more of it
//! is in memory than what is looked at.

use std::collections::HashMap;

use rayon::prelude::*;

use super::lines::{Block, CHUNK, Lines, split};
use super::record::{Entry, Header, Line};
use super::stretch::{Link, Stretch};
use crate::block::{self, Kind, Packing, Seams, pack};
use crate::suite::Digest;
use crate::verify::{Control, Fault, ReadAt, ReadFault, Source};

/// An interchange file, its lines read once.
pub struct Reading<'f, F: ?Sized> {
    pub(super) file: &'f F,
    pub(super) lines: Lines,
    pub(super) tail: Option<Stretch>,
    pub(super) broken: Option<Fault>,
}

impl<'f, F: ReadAt + ?Sized> Reading<'f, F> {
    /// Reads a file's lines, as far as they stand in order.
    pub fn of(file: &'f F, control: &dyn Control) -> Self {
        Self::by(file, CHUNK, control)
    }

    pub(super) fn by(file: &'f F, chunk: u64, control: &dyn Control) -> Self {
        let mut lines = Lines::default();
        let broken = lines
            .read(file, chunk, control)
            .and_then(|()| lines.check_end())
            .err();
        let flow = lines.header.as_ref().map_or("", |header| &header.genesis.flow);
        let broken = broken.map(|broken| broken.fault(flow));
        Self {
            file,
            tail: lines.tail(),
            lines,
            broken,
        }
    }

    /// The flow's id; empty if the file does not come so far.
    pub fn flow(&self) -> &str {
        self.lines
            .header
            .as_ref()
            .map_or("", |header| &header.genesis.flow)
    }

    /// Whether the file says that the flow is closed; none if the file breaks off.
    pub fn closed(&self) -> Option<bool> {
        self.lines
            .header
            .as_ref()
            .filter(|_| self.broken.is_none())
            .map(|header| header.closed)
    }

    /// What the file breaks with: a fault of class `format`, `position`, `missing` or `read`.
    pub fn broken(&self) -> Option<&Fault> {
        self.broken.as_ref()
    }

    /// The line (from 1) with which the file breaks.
    pub fn broken_line(&self) -> Option<u64> {
        self.broken.as_ref().map(|_| self.lines.read + 1)
    }

    /// How many checkpoints stand at its end.
    pub fn checkpoint_count(&self) -> u64 {
        self.lines.checkpoints.count
    }

    /// The signed notes of the checkpoints.
    pub fn checkpoints(&self) -> Result<Vec<String>, ReadFault> {
        if self.checkpoint_count() == 0 {
            return Ok(Vec::new());
        }
        let range = self.lines.checkpoints.bytes.clone();
        let (end, mut buffer) = (range.end.min(self.file.length()), Vec::new());
        let text = self.file.read_at(range.start..end, &mut buffer)?;
        let note = |line| match Line::read(line) {
            Ok(Line::Checkpoint(note)) => Ok(note),
            _ => Err(ReadFault),
        };
        split(text).map(note).collect()
    }

    /// The flow's blocks and tail, with the values that the file records.
    pub fn pieces(&self) -> impl Source + '_ {
        Pieces {
            reading: self,
            instead: Instead::default(),
        }
    }
}

/// What is packed instead of a recorded value that its own fault names already, lest it drag others along.
#[derive(Clone, Default)]
pub(super) struct Instead {
    pub genesis: Option<Digest>,
    /// Event hashes by position, in the seams of other blocks.
    pub hashes: HashMap<u64, Digest>,
}

/// A file's containers, packed when they are asked for.
pub(super) struct Pieces<'r, 'f, F: ?Sized> {
    pub reading: &'r Reading<'f, F>,
    pub instead: Instead,
}

impl<F: ReadAt + ?Sized> Source for Pieces<'_, '_, F> {
    fn len(&self) -> usize {
        self.reading.lines.blocks.len() + usize::from(self.reading.tail.is_some())
    }

    fn size(&self, index: usize) -> usize {
        let bytes = self.stretch(index).map(|stretch| stretch.bytes.clone());
        bytes.map_or(0, |bytes| (bytes.end - bytes.start) as usize)
    }

    fn read<'a>(&'a self, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        let header = self.reading.lines.header.as_ref().ok_or(ReadFault)?;
        let stretch = self.stretch(index).ok_or(ReadFault)?;
        let entries = self.reading.entries(stretch)?;
        let packer = Packer {
            header,
            genesis: self.instead.genesis.unwrap_or(header.digest),
            stretch,
            hashes: &self.instead.hashes,
        };
        let before = index
            .checked_sub(1)
            .and_then(|i| self.reading.lines.blocks.get(i));
        let block = self.reading.lines.blocks.get(index);
        *buffer = packer.pack(before, block, &entries);
        Ok(buffer)
    }
}

impl<F: ?Sized> Pieces<'_, '_, F> {
    fn stretch(&self, index: usize) -> Option<&Stretch> {
        let block = self.reading.lines.blocks.get(index).map(|block| &block.events);
        block.or(self.reading.tail.as_ref())
    }
}

impl<F: ReadAt + ?Sized> Reading<'_, F> {
    /// The events of a stretch, read again. A file that has changed since cannot be read.
    fn entries(&self, stretch: &Stretch) -> Result<Vec<Entry>, ReadFault> {
        let mut buffer = Vec::new();
        let end = stretch.bytes.end.min(self.file.length());
        let text = self.file.read_at(stretch.bytes.start..end, &mut buffer)?;
        let lines: Vec<&[u8]> = split(text).collect();
        if lines.len() as u64 != stretch.events.end - stretch.events.start {
            return Err(ReadFault);
        }
        let entry = |(i, line): (usize, &&[u8])| match Line::read(line) {
            Ok(Line::Event(n, entry)) if n == stretch.events.start + i as u64 => Ok(entry),
            _ => Err(ReadFault),
        };
        lines.par_iter().enumerate().with_min_len(64).map(entry).collect()
    }
}

struct Packer<'a> {
    header: &'a Header,
    genesis: Digest,
    stretch: &'a Stretch,
    hashes: &'a HashMap<u64, Digest>,
}

impl Packer<'_> {
    /// The block, or the tail where there is none, behind the block before.
    fn pack(&self, before: Option<&Block>, block: Option<&Block>, entries: &[Entry]) -> Vec<u8> {
        let (height, previous) = before.map_or((0, self.genesis), |block| {
            (block.line.block.0.saturating_add(1), block.line.hash.0)
        });
        let open = self.open_header(height, previous);
        let entries: Vec<_> = entries.iter().map(Entry::packed).collect();
        pack(&Packing {
            kind: if block.is_some() { Kind::Block } else { Kind::Tail },
            genesis_record: &self.header.genesis.encode(),
            header: block.map_or(open.clone(), |block| sealed_header(block, open)),
            hash: block.map_or([0; 32], |block| block.line.hash.0),
            seams: self.seams(block.is_none()),
            entries: &entries,
        })
    }

    /// The header with zero for what sealing alone decides.
    fn open_header(&self, height: u64, previous: Digest) -> block::Header {
        let events = &self.stretch.events;
        block::Header {
            suite: self.header.genesis.suite,
            closes: false,
            count: (events.end - events.start) as u32,
            height,
            first: events.start,
            epoch: 0,
            when_min: 0,
            when_max: 0,
            sealed_at: 0,
            genesis: self.genesis,
            previous,
            root: [0; 32],
        }
    }

    fn seams(&self, tail: bool) -> Seams {
        let [third, second, first] = self.stretch.before;
        let events = &self.stretch.events;
        let id = |link: Option<Link>| link.map_or(self.genesis, |link| link.id);
        let before = |link: Option<Link>, back| {
            self.hash(events.start.saturating_sub(back), link.map(|link| link.hash))
        };
        let [next, over, last] = self.stretch.after;
        let end = events.end;
        Seams {
            ids: [id(third), id(second), id(first)],
            hashes: [before(second, 2), before(first, 1)],
            next_hashes: match tail {
                true => [[0; 32]; 3],
                false => [
                    self.hash(end, next),
                    self.hash(end + 1, over),
                    self.hash(end + 2, last),
                ],
            },
        }
    }

    /// The event hash in another block's seams; G where there is no event.
    fn hash(&self, n: u64, recorded: Option<Digest>) -> Digest {
        let instead = recorded.and_then(|_| self.hashes.get(&n).copied());
        instead.or(recorded).unwrap_or(self.genesis)
    }
}

fn sealed_header(block: &Block, open: block::Header) -> block::Header {
    let line = &block.line;
    block::Header {
        closes: line.closes,
        height: line.block.0,
        epoch: line.epoch.0,
        when_min: line.when_min.0,
        when_max: line.when_max.0,
        sealed_at: line.sealed_at.0,
        root: line.root.0,
        ..open
    }
}

impl Entry {
    fn packed(&self) -> block::Entry<'_> {
        block::Entry {
            frame: &self.frame,
            hash: self.hash,
            id: self.id,
            body: self.body.as_deref(),
        }
    }
}

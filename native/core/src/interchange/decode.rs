//! An interchange file as packed containers that hold what the file *records*, so that the one verification names what
//! is wrong with it. What cannot be packed is a fault here, and ends the reading; the blocks that end before it are
//! packed, and so are the unsealed events.

use std::collections::HashMap;
use std::ops::Range;

use super::lines::{Block, Lines};
use super::record::{Entry, Header};
use crate::block::{self, Kind, Packing, Seams, pack};
use crate::suite::Digest;
use crate::verify::{Control, Fault, Unwatched};

/// What an interchange file holds.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The flow's id; empty if the file does not come so far.
    pub flow: String,
    /// The genesis record; empty if the file does not come so far.
    pub genesis_record: Vec<u8>,
    /// The flow's blocks and tail, with the values that the file records.
    pub pieces: Vec<Vec<u8>>,
    /// Whether the file says that the flow is closed; none if the file breaks off.
    pub closed: Option<bool>,
    /// The signed notes of the checkpoints.
    pub checkpoints: Vec<String>,
    /// What the file breaks with: at most one fault, of class `format`, `position` or `missing`.
    pub faults: Vec<Fault>,
    /// The line (from 1) with which the file breaks.
    pub broken_line: Option<u64>,
}

/// Reads an interchange file.
pub fn decode(file: &[u8]) -> Decoded {
    let reading = Reading::of(file, &Unwatched);
    let header = reading.lines.header.as_ref();
    Decoded {
        flow: reading.flow().to_owned(),
        genesis_record: header.map(|header| header.genesis.encode()).unwrap_or_default(),
        pieces: reading.pieces(&Instead::default()),
        closed: reading.closed(),
        broken_line: reading.broken.as_ref().map(|_| reading.lines.read + 1),
        faults: reading.broken.into_iter().collect(),
        checkpoints: reading.lines.checkpoints,
    }
}

/// A file's lines, and what they break with.
pub(super) struct Reading {
    pub lines: Lines,
    pub broken: Option<Fault>,
}

/// What is packed instead of a recorded value that its own fault names already, lest it drag others along.
#[derive(Default)]
pub(super) struct Instead {
    pub genesis: Option<Digest>,
    /// Event hashes by position, in the seams of other blocks.
    pub hashes: HashMap<u64, Digest>,
}

impl Reading {
    pub fn of(file: &[u8], control: &dyn Control) -> Self {
        let mut lines = Lines::default();
        let broken = lines.read(file, control).and_then(|()| lines.check_end()).err();
        let flow = lines.header.as_ref().map_or("", |header| &header.genesis.flow);
        let broken = broken.map(|broken| broken.fault(flow));
        Self { lines, broken }
    }

    pub fn flow(&self) -> &str {
        self.lines
            .header
            .as_ref()
            .map_or("", |header| &header.genesis.flow)
    }

    pub fn closed(&self) -> Option<bool> {
        self.lines
            .header
            .as_ref()
            .filter(|_| self.broken.is_none())
            .map(|header| header.closed)
    }

    /// Every block, and the tail if there is one.
    pub fn pieces(&self, instead: &Instead) -> Vec<Vec<u8>> {
        let Some(header) = &self.lines.header else {
            return Vec::new();
        };
        let packer = Packer {
            lines: &self.lines,
            header,
            record: header.genesis.encode(),
            genesis: instead.genesis.unwrap_or(header.digest),
            instead,
        };
        packer.pieces()
    }
}

struct Packer<'a> {
    lines: &'a Lines,
    header: &'a Header,
    record: Vec<u8>,
    genesis: Digest,
    instead: &'a Instead,
}

impl Packer<'_> {
    fn pieces(&self) -> Vec<Vec<u8>> {
        let (mut height, mut previous) = (0, self.genesis);
        let mut pieces = Vec::with_capacity(self.lines.blocks.len() + 1);
        for block in &self.lines.blocks {
            pieces.push(self.block(block, previous));
            (height, previous) = (block.line.block.0.saturating_add(1), block.line.hash.0);
        }
        let open = self.lines.open_events();
        if !open.is_empty() {
            pieces.push(self.tail(open, height, previous));
        }
        pieces
    }

    fn block(&self, block: &Block, previous: Digest) -> Vec<u8> {
        let line = &block.line;
        let header = block::Header {
            closes: line.closes,
            epoch: line.epoch.0,
            when_min: line.when_min.0,
            when_max: line.when_max.0,
            sealed_at: line.sealed_at.0,
            root: line.root.0,
            ..self.header(&block.events, line.block.0, previous)
        };
        let end = block.events.end;
        let next_hashes = [end, end + 1, end + 2].map(|i| self.hash(Some(i)));
        self.pack(Kind::Block, header, line.hash.0, &block.events, next_hashes)
    }

    fn tail(&self, events: Range<usize>, height: u64, previous: Digest) -> Vec<u8> {
        self.pack(
            Kind::Tail,
            self.header(&events, height, previous),
            [0; 32],
            &events,
            [[0; 32]; 3],
        )
    }

    /// The header with zero for what sealing alone decides.
    fn header(&self, events: &Range<usize>, height: u64, previous: Digest) -> block::Header {
        block::Header {
            suite: self.header.genesis.suite,
            closes: false,
            count: events.len() as u32,
            height,
            first: events.start as u64 + 1,
            epoch: 0,
            when_min: 0,
            when_max: 0,
            sealed_at: 0,
            genesis: self.genesis,
            previous,
            root: [0; 32],
        }
    }

    fn pack(
        &self,
        kind: Kind,
        header: block::Header,
        hash: Digest,
        events: &Range<usize>,
        next_hashes: [Digest; 3],
    ) -> Vec<u8> {
        let before = |back| events.start.checked_sub(back);
        let seams = Seams {
            ids: [3, 2, 1].map(|back| self.id(before(back))),
            hashes: [2, 1].map(|back| self.hash(before(back))),
            next_hashes,
        };
        let run = self.lines.events.get(events.clone()).unwrap_or_default();
        let entries: Vec<_> = run.iter().map(Entry::packed).collect();
        pack(&Packing {
            kind,
            genesis_record: &self.record,
            header,
            hash,
            seams,
            entries: &entries,
        })
    }

    fn entry(&self, index: Option<usize>) -> Option<&Entry> {
        index.and_then(|i| self.lines.events.get(i))
    }

    fn id(&self, index: Option<usize>) -> Digest {
        self.entry(index).map_or(self.genesis, |event| event.id)
    }

    /// The event hash in another block's seams; G where there is no event.
    fn hash(&self, index: Option<usize>) -> Digest {
        let instead = index.and_then(|i| self.instead.hashes.get(&(i as u64 + 1)));
        instead
            .copied()
            .unwrap_or(self.entry(index).map_or(self.genesis, |event| event.hash))
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

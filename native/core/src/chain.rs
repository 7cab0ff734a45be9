//! How events are linked: the state between two events, and settling. FORMAT.md, "Ids".
use crate::block::Container;
use crate::event::{Event, FLAGS_AT, LATE};
use crate::genesis::Genesis;
use crate::link::{Linked, linked, provided};
use crate::suite::{Digest, Suite};
use crate::wire::{LIMIT, Malformed, Reader};

pub mod fresh;
mod many;
pub mod run;

pub use many::{Settling, settle_many};

/// Where a flow stands after its last settled event: all that settling the next one needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    suite: Suite,
    genesis: Digest,
    n: u64,
    /// The position of the last known id: n−3 … n. Behind a sealed block all ids are known.
    known: u64,
    /// The last three known ids, oldest first.
    ids: [Digest; 3],
    /// Eₙ₋₂, Eₙ₋₁, Eₙ.
    hashes: [Digest; 3],
    when_max: Option<i64>,
    recorded_at: Option<i64>,
    closed: bool,
}

/// What settling made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The settled events, in order.
    pub entries: Vec<SettledEvent>,
    /// The position of the first of `ids`.
    pub first_id: u64,
    /// The ids that can be known now and could not before, in order.
    pub ids: Vec<Digest>,
}

/// One settled event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledEvent {
    /// Its position.
    pub n: u64,
    /// Its frame, with the late flag set as it must be.
    pub frame: Vec<u8>,
    /// Its event hash.
    pub hash: Digest,
    /// Its provisional id.
    pub provisional: Digest,
}

/// Why events cannot be settled. Nothing was changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleError {
    /// The flow is closed.
    Closed,
    /// A frame is not of format 1.
    Frame {
        /// Which one of those given, from 0.
        index: usize,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// `recorded_at` fell.
    RecordedAt {
        /// Which one of those given, from 0.
        index: usize,
    },
    /// `$close` is not last, or the last event of a closing is not `$close`.
    Close {
        /// Which one of those given, from 0.
        index: usize,
    },
    /// Positions end at 2⁵³−1.
    Full,
}

/// Why stored, unsealed events cannot be taken up again: they are not what settling them makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// The genesis record is not of format 1, or not that of the block.
    Genesis,
    /// The block is a tail, or closes the flow although events follow.
    Block,
    /// An entry differs from what settling makes of its frame, or from the block's seams.
    Entry {
        /// Which one of those given, from 0.
        index: usize,
    },
    /// Fewer entries than the block's seams need.
    Missing,
}

/// A settled, unsealed event as it was stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its frame.
    pub frame: &'a [u8],
    /// Its event hash.
    pub hash: Digest,
    /// Its provisional id.
    pub provisional: Digest,
}

impl Links {
    /// Before a flow's first event.
    pub fn start(suite: Suite, genesis: Digest) -> Links {
        Links {
            suite,
            genesis,
            n: 0,
            known: 0,
            ids: [genesis; 3],
            hashes: [genesis; 3],
            when_max: None,
            recorded_at: None,
            closed: false,
        }
    }

    /// Right after a sealed block's last event. `when_max` is the greatest `when` of the flow up to there.
    pub fn after_block(block: &Container<'_>, when_max: Option<i64>) -> Links {
        let header = block.header();
        Links {
            suite: header.suite,
            genesis: header.genesis,
            n: block.last(),
            known: block.last(),
            ids: block.last_ids(),
            hashes: block.last_hashes(),
            when_max: when_max.max(Some(header.when_max)),
            recorded_at: block.last_recorded_at(),
            closed: header.closes,
        }
    }

    /// Takes up a flow from its stored state: settles the stored events again and compares. Returns the state behind
    /// them, and the ids that could be known.
    pub fn restore(
        genesis_record: &[u8],
        block: Option<&Container<'_>>,
        when_max: Option<i64>,
        entries: &[Stored<'_>],
    ) -> Result<(Links, Settled), Corrupt> {
        let genesis = Genesis::decode(genesis_record).map_err(|_| Corrupt::Genesis)?;
        let mut links = Links::start(genesis.suite, genesis.digest());
        let mut seams: &[Digest] = &[];
        if let Some(block) = block {
            if block.genesis_record() != genesis_record || block.header().genesis != links.genesis {
                return Err(Corrupt::Genesis);
            }
            links = Links::after_block(block, when_max);
            seams = if links.closed {
                &[]
            } else {
                &block.seams().next_hashes
            };
            if block.is_tail() || (links.closed && !entries.is_empty()) {
                return Err(Corrupt::Block);
            }
        }
        let expected = |index: usize| seams.get(index);
        if let Some(index) = (0..entries.len().min(seams.len()))
            .find(|&index| entries.get(index).map(|entry| &entry.hash) != expected(index))
        {
            return Err(Corrupt::Entry { index });
        }
        if entries.len() < seams.len() {
            return Err(Corrupt::Missing);
        }
        let settled = links.again(entries)?;
        Ok((links, settled))
    }

    fn again(&mut self, entries: &[Stored<'_>]) -> Result<Settled, Corrupt> {
        if entries.is_empty() {
            return Ok(Settled {
                entries: Vec::new(),
                first_id: self.known + 1,
                ids: Vec::new(),
            });
        }
        let frames = entries.iter().map(|entry| entry.frame.to_vec());
        let settled = settle(self, frames, false).map_err(|error| Corrupt::Entry { index: error.index() })?;
        let differs = |(stored, made): (&Stored<'_>, &SettledEvent)| {
            stored.frame != made.frame || stored.hash != made.hash || stored.provisional != made.provisional
        };
        match entries.iter().zip(&settled.entries).position(differs) {
            Some(index) => Err(Corrupt::Entry { index }),
            None => Ok(settled),
        }
    }

    /// How the flow is hashed.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// G.
    pub fn genesis(&self) -> &Digest {
        &self.genesis
    }

    /// The position of the last settled event; 0 before the first.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The position of the last event whose id is known.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// The greatest `when` so far.
    pub fn when_max(&self) -> Option<i64> {
        self.when_max
    }

    /// The last event's `recorded_at`.
    pub fn recorded_at(&self) -> Option<i64> {
        self.recorded_at
    }

    /// Whether the flow is closed.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// The state as 352 bytes, for keeping. Not part of format 1: only this library reads it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, self.suite.as_u8(), u8::from(self.closed), 0];
        out.extend_from_slice(&[
            0,
            0,
            u8::from(self.when_max.is_some()),
            u8::from(self.recorded_at.is_some()),
        ]);
        out.extend_from_slice(&self.n.to_be_bytes());
        out.extend_from_slice(&self.known.to_be_bytes());
        out.extend_from_slice(&self.when_max.unwrap_or_default().to_be_bytes());
        out.extend_from_slice(&self.recorded_at.unwrap_or_default().to_be_bytes());
        for digest in [&self.genesis].into_iter().chain(&self.ids).chain(&self.hashes) {
            out.extend_from_slice(digest);
        }
        crate::wire::pad(&mut out, 0);
        out
    }

    /// Reads what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<Links, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != 1 {
            return Err(Malformed::new(0, "version"));
        }
        let suite = Suite::from_u8(reader.u8("suite")?).ok_or(Malformed::new(1, "suite"))?;
        let closed = flag(&mut reader)?;
        reader.zeros(3)?;
        let (has_when, has_recorded) = (flag(&mut reader)?, flag(&mut reader)?);
        let n = reader.counter("n")?;
        let known = reader.counter("known")?;
        if known > n || n - known > 3 {
            return Err(Malformed::new(16, "known"));
        }
        let (when, recorded) = (reader.time("when_max")?, reader.time("recorded_at")?);
        let when_max = reader.optional(has_when, when)?;
        let recorded_at = reader.optional(has_recorded, recorded)?;
        let mut digest = || reader.digest("digest").copied();
        let genesis = digest()?;
        let ids = [digest()?, digest()?, digest()?];
        let hashes = [digest()?, digest()?, digest()?];
        reader.zeros_to_unit(0)?;
        reader.end()?;
        Ok(Links {
            suite,
            genesis,
            n,
            known,
            ids,
            hashes,
            when_max,
            recorded_at,
            closed,
        })
    }

    /// What the id is the hash of that an event makes known whose hash is `own`, if it makes one known.
    fn linked_by(&self, own: Digest) -> Option<Linked> {
        let [third, second, first] = self.hashes;
        let hashes = [third, second, first, own];
        (self.known + 3 == self.n).then(|| linked(&self.genesis, &self.ids, &hashes))
    }

    /// The same of the next id that only a closing makes known: G stands for the events that will never come.
    fn linked_by_none(&self) -> Option<Linked> {
        let [third, second, first] = self.hashes;
        let none = self.genesis;
        let window = [third, second, first, none, none, none];
        let back = self.n.checked_sub(self.known + 1)?; // 2, 1 or 0
        let hashes = window
            .get(2_usize.saturating_sub(back as usize)..)?
            .first_chunk()?;
        Some(linked(&self.genesis, &self.ids, hashes))
    }

    fn learn(&mut self, id: Digest) {
        let [_, second, first] = self.ids;
        self.ids = [second, first, id];
        self.known += 1;
    }

    /// Moves on by one event. Returns what its provisional id is the hash of.
    fn advance(&mut self, own: Digest) -> [u8; 192] {
        let [_, second, first] = self.hashes;
        self.n += 1;
        self.hashes = [second, first, own];
        // Now known is n−3 … n−1, so Iₙ₋₃ is one of the three.
        let [oldest, middle, latest] = &self.ids;
        let id = match self.n - self.known {
            1 => oldest,
            2 => middle,
            _ => latest,
        };
        provided(&self.genesis, id, &self.hashes, self.n)
    }
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.u8("flag")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => reader.fail("flag"),
    }
}

impl SettleError {
    fn index(self) -> usize {
        match self {
            SettleError::Closed | SettleError::Full => 0,
            SettleError::Frame { index, .. }
            | SettleError::RecordedAt { index }
            | SettleError::Close { index } => index,
        }
    }
}

/// Settles frames, in order: sets their late flags, hashes them, gives each its provisional id, and finds the ids that
/// can now be known. `closing` says that the last one is `$close`. On error `links` is as it was.
pub fn settle(
    links: &mut Links,
    frames: impl IntoIterator<Item = Vec<u8>>,
    closing: bool,
) -> Result<Settled, SettleError> {
    let settling = Settling {
        links: links.clone(),
        frames: frames.into_iter().collect(),
        closing,
    };
    let settled = settle_many(vec![settling])?.pop();
    Ok(settled.map_or_else(Settled::default, |(next, settled)| {
        *links = next;
        settled
    }))
}

impl Links {
    /// Checks the frames and sets their late flags.
    fn prepare(&mut self, mut frames: Vec<Vec<u8>>, closing: bool) -> Result<Vec<Vec<u8>>, SettleError> {
        let count = frames.len();
        if self.n + count as u64 > LIMIT as u64 {
            return Err(SettleError::Full);
        }
        if closing && count == 0 {
            return Err(SettleError::Close { index: 0 });
        }
        for (index, frame) in frames.iter_mut().enumerate() {
            let event = Event::decode(frame).map_err(|malformed| SettleError::Frame { index, malformed })?;
            if event.closes() != (closing && index + 1 == count) {
                return Err(SettleError::Close { index });
            }
            if self.recorded_at > Some(event.recorded_at) {
                return Err(SettleError::RecordedAt { index });
            }
            let (when, late) = (event.when, self.when_max > Some(event.when));
            self.recorded_at = Some(event.recorded_at);
            self.when_max = self.when_max.max(Some(when));
            if let Some(flags) = frame.get_mut(FLAGS_AT) {
                *flags = if late { LATE } else { 0 };
            }
        }
        Ok(frames)
    }
}

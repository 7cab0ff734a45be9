//! Packed containers: sealed blocks and tails. FORMAT.md, "Packed container".
use crate::event::Event;
use crate::genesis::{Genesis, Record, WINDOW};
use crate::suite::{Digest, Role, Suite, UNIT, hash};
use crate::wire::{LIMIT, Malformed, Reader, is_zero, padded};

mod pack;
mod seal;

pub use pack::{Entry, Packing, pack};
pub use seal::{SealError, Sealing, pack_tail, seal, seal_in};

/// Most events in one container.
pub const COUNT_MAX: usize = 1 << 20;
/// Greatest length of a salted body, in units of 64 bytes.
pub const BODY_UNITS_MAX: u32 = (1 << 31) - 1;

pub(crate) const BLOCK_MAGIC: &[u8; 8] = b"EVSEALB1";
pub(crate) const TAIL_MAGIC: &[u8; 8] = b"EVSEALT1";
/// Bit 31 of a body's length: erased.
pub(crate) const ERASED: u32 = 1 << 31;
/// From the start to the genesis record.
pub(crate) const PREAMBLE: usize = 64;
const HEADER: usize = 192;
/// Within so many bytes every container has its header.
pub const BEGINNING: usize = PREAMBLE + 576 + HEADER;
const HEADER_VERSION: u8 = 1;
const CLOSES: u8 = 1;

/// What a container holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Fixed events, sealed.
    Block,
    /// Settled events that are not sealed yet.
    Tail,
}

/// A block's header. A tail has the one that the next block would get, with zero for what sealing alone decides
/// (`closes`, `epoch`, `when_min`, `when_max`, `sealed_at`, `root`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the flow is hashed.
    pub suite: Suite,
    /// Whether this block closes its flow.
    pub closes: bool,
    /// How many events.
    pub count: u32,
    /// The block's number in its flow, from 0.
    pub height: u64,
    /// The position of its first event.
    pub first: u64,
    /// The writer's term.
    pub epoch: u64,
    /// The least `when`.
    pub when_min: i64,
    /// The greatest `when`.
    pub when_max: i64,
    /// The store's clock at the sealing.
    pub sealed_at: i64,
    /// G.
    pub genesis: Digest,
    /// The hash of the block before, or G.
    pub previous: Digest,
    /// The Merkle root over the ids.
    pub root: Digest,
}

impl Header {
    /// The hashed input of the block hash.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&[HEADER_VERSION, self.suite.as_u8(), u8::from(self.closes), WINDOW]);
        out.extend_from_slice(&self.count.to_be_bytes());
        for number in [self.height, self.first, self.epoch] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for time in [self.when_min, self.when_max, self.sealed_at] {
            out.extend_from_slice(&time.to_be_bytes());
        }
        for digest in [&self.genesis, &self.previous, &self.root] {
            out.extend_from_slice(digest);
        }
        out.resize(HEADER, 0);
        out.first_chunk().copied().unwrap_or([0; HEADER])
    }

    /// A block's header, by what its container begins with: [`BEGINNING`] bytes, or all. Of the rest nothing is said.
    pub fn of_beginning(bytes: &[u8]) -> Result<Header, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.array("magic")? != BLOCK_MAGIC {
            return Err(Malformed::new(0, "magic"));
        }
        let record = Genesis::record_length(bytes.get(PREAMBLE..).unwrap_or_default());
        let record = record.map_err(|malformed| malformed.within(PREAMBLE))?;
        reader.take(PREAMBLE - BLOCK_MAGIC.len() + record, "genesis")?;
        Header::decode(&mut reader)
    }

    /// The block hash.
    pub fn digest(&self) -> Digest {
        hash(self.suite, Role::Block, &[&self.encode()])
    }

    /// The position of the last event.
    pub fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count)).saturating_sub(1)
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Header, Malformed> {
        let at = reader.at();
        let [version, suite, flags, window] = *reader.array("header")?;
        let suite = Suite::from_u8(suite).ok_or(Malformed::new(at + 1, "suite"))?;
        if version != HEADER_VERSION || flags > CLOSES || window != WINDOW {
            return Err(Malformed::new(at, "header"));
        }
        let count = reader.u32("count")?;
        if count == 0 || count as usize > COUNT_MAX {
            return Err(Malformed::new(at + 4, "count"));
        }
        let height = reader.counter("height")?;
        let first = reader.counter("first")?;
        if first == 0 || first + u64::from(count) - 1 > LIMIT as u64 {
            return Err(Malformed::new(at + 16, "first"));
        }
        let header = Header {
            suite,
            closes: flags == CLOSES,
            count,
            height,
            first,
            epoch: reader.counter("epoch")?,
            when_min: reader.time("when_min")?,
            when_max: reader.time("when_max")?,
            sealed_at: reader.time("sealed_at")?,
            genesis: *reader.digest("genesis")?,
            previous: *reader.digest("previous")?,
            root: *reader.digest("root")?,
        };
        reader.zeros(HEADER + at - reader.at())?;
        Ok(header)
    }

    /// Whether every field is in its range.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        Header::decode(&mut Reader::new(&self.encode())).map(|_| ())
    }

    /// What sealing alone decides is zero in a tail.
    fn is_open(&self) -> bool {
        let numbers = self.epoch == 0 && self.when_min == 0 && self.when_max == 0 && self.sealed_at == 0;
        numbers && !self.closes && is_zero(&self.root)
    }
}

/// What stands on the other side of a container's edges, so that it can be checked alone. Where there is no event
/// there, G.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seams {
    /// I of first−3, first−2, first−1.
    pub ids: [Digest; 3],
    /// E of first−2, first−1.
    pub hashes: [Digest; 2],
    /// E of last+1, last+2, last+3; zero in a tail.
    pub next_hashes: [Digest; 3],
}

impl Seams {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Seams, Malformed> {
        let mut digest = || reader.digest("seams").copied();
        Ok(Seams {
            ids: [digest()?, digest()?, digest()?],
            hashes: [digest()?, digest()?],
            next_hashes: [digest()?, digest()?, digest()?],
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Digest> {
        self.ids.iter().chain(&self.hashes).chain(&self.next_hashes)
    }
}

/// The body of an event in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The salted body, undecoded.
    Shown(&'a [u8]),
    /// It was erased.
    Erased,
    /// It is not there.
    Absent,
}

/// A container, read strictly and without copying. Frames and bodies are not decoded: `Event::decode` and
/// `decode_salted_body` do that.
#[derive(Debug)]
pub struct Container<'a> {
    kind: Kind,
    hash: &'a Digest,
    genesis_record: &'a [u8],
    genesis: Record<'a>,
    header: Header,
    seams: Seams,
    frames: &'a [u8],
    frames_at: usize,
    /// Where each frame ends, in units from the first frame.
    frame_ends: Vec<u32>,
    hashes: &'a [Digest],
    ids: &'a [Digest],
    verification: usize,
    bodies: Option<Bodies<'a>>,
}

#[derive(Debug)]
struct Bodies<'a> {
    bytes: &'a [u8],
    /// Where each body ends, in units from the first body, and how it is there.
    ends: Vec<(u64, Presence)>,
}

#[derive(Clone, Copy, Debug)]
enum Presence {
    Shown,
    Erased,
    Absent,
}

impl<'a> Container<'a> {
    /// Reads a container.
    pub fn decode(bytes: &'a [u8]) -> Result<Container<'a>, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = match reader.array("magic")? {
            BLOCK_MAGIC => Kind::Block,
            TAIL_MAGIC => Kind::Tail,
            _ => return Err(Malformed::new(0, "magic")),
        };
        let verification = reader.u64("length")?;
        let verification = usize_of(&reader, verification)?;
        let total = reader.u64("length")?;
        if total != bytes.len() as u64 {
            return Err(Malformed::new(16, "length"));
        }
        reader.zeros(8)?;
        let hash = reader.digest("hash")?;
        let length = Genesis::record_length(bytes.get(PREAMBLE..).unwrap_or_default())
            .map_err(|malformed| malformed.within(PREAMBLE))?;
        let genesis_record = reader.take(length, "genesis")?;
        let genesis = Record::decode(genesis_record).map_err(|malformed| malformed.within(PREAMBLE))?;
        let header_at = reader.at();
        let header = Header::decode(&mut reader)?;
        if header.suite != genesis.suite {
            return Err(Malformed::new(header_at + 1, "suite"));
        }
        let seams = Seams::decode(&mut reader)?;
        if kind == Kind::Tail
            && !(header.is_open() && is_zero(hash) && is_zero(seams.next_hashes.as_flattened()))
        {
            return Err(Malformed::new(header_at, "tail"));
        }
        let count = header.count as usize;
        let frame_ends = frame_ends(&mut reader, count)?;
        let frames_at = reader.at();
        let units = frame_ends.last().copied().unwrap_or_default() as usize;
        let frames = reader.take(units.saturating_mul(UNIT), "frames")?;
        let hashes = reader.digests(count, "hashes")?;
        let ids = reader.digests(count, "ids")?;
        if reader.at() != verification {
            return Err(Malformed::new(8, "verification length"));
        }
        let bodies = if verification == bytes.len() {
            None
        } else {
            Some(Bodies::decode(&mut reader, count)?)
        };
        reader.end()?;
        Ok(Container {
            kind,
            hash,
            genesis_record,
            genesis,
            header,
            seams,
            frames,
            frames_at,
            frame_ends,
            hashes,
            ids,
            verification,
            bodies,
        })
    }

    /// Block or tail.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is a tail.
    pub fn is_tail(&self) -> bool {
        self.kind == Kind::Tail
    }

    /// The block hash as recorded; zero in a tail.
    pub fn hash(&self) -> &'a Digest {
        self.hash
    }

    /// The genesis record.
    pub fn genesis_record(&self) -> &'a [u8] {
        self.genesis_record
    }

    /// The flow's id.
    pub fn flow(&self) -> &'a str {
        self.genesis.flow
    }

    /// The header as recorded.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The seams as recorded.
    pub fn seams(&self) -> &Seams {
        &self.seams
    }

    /// How many events.
    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    /// The position of the last event.
    pub fn last(&self) -> u64 {
        self.header.last()
    }

    /// How many bytes the verification part has.
    pub fn verification_length(&self) -> usize {
        self.verification
    }

    /// How many bytes the bodies have.
    pub fn body_length(&self) -> usize {
        self.bodies.as_ref().map_or(0, |bodies| bodies.bytes.len())
    }

    /// The frame of the i-th event (from 0); empty if there is none.
    pub fn frame(&self, i: usize) -> &'a [u8] {
        let start = i
            .checked_sub(1)
            .and_then(|before| self.frame_ends.get(before))
            .copied()
            .unwrap_or_default();
        let end = self.frame_ends.get(i).copied().unwrap_or_default();
        self.frames
            .get(start as usize * UNIT..end as usize * UNIT)
            .unwrap_or_default()
    }

    /// Where in the container the frame of the i-th event begins.
    pub fn frame_offset(&self, i: usize) -> usize {
        let start = i
            .checked_sub(1)
            .and_then(|before| self.frame_ends.get(before))
            .copied()
            .unwrap_or_default();
        self.frames_at + start as usize * UNIT
    }

    /// The i-th event, decoded.
    pub fn event(&self, i: usize) -> Result<Event<'a>, Malformed> {
        Event::decode(self.frame(i)).map_err(|malformed| malformed.within(self.frame_offset(i)))
    }

    /// The recorded event hashes.
    pub fn hashes(&self) -> &'a [Digest] {
        self.hashes
    }

    /// The recorded ids; in a tail the provisional ids.
    pub fn ids(&self) -> &'a [Digest] {
        self.ids
    }

    /// The body of the i-th event.
    pub fn body(&self, i: usize) -> Body<'a> {
        self.bodies.as_ref().map_or(Body::Absent, |bodies| bodies.get(i))
    }

    /// I of last−2, last−1, last: what a block's successor has in its seams.
    pub fn last_ids(&self) -> [Digest; 3] {
        last_three(self.seams.ids, self.ids)
    }

    /// E of last−2, last−1, last.
    pub fn last_hashes(&self) -> [Digest; 3] {
        let [second, first] = self.seams.hashes;
        last_three([first, second, first], self.hashes)
    }

    /// `recorded_at` of the last event, if its frame is of format 1.
    pub fn last_recorded_at(&self) -> Option<i64> {
        self.event(self.count().saturating_sub(1))
            .ok()
            .map(|event| event.recorded_at)
    }
}

/// The last three of `before` followed by `run`.
pub(crate) fn last_three(before: [Digest; 3], run: &[Digest]) -> [Digest; 3] {
    let [_, second, first] = before;
    match run {
        [] => before,
        [a] => [second, first, *a],
        [a, b] => [first, *a, *b],
        [.., a, b, c] => [*a, *b, *c],
    }
}

impl<'a> Bodies<'a> {
    fn decode(reader: &mut Reader<'a>, count: usize) -> Result<Bodies<'a>, Malformed> {
        let start = reader.at();
        let (lengths, _) = reader
            .take(count.saturating_mul(4), "body lengths")?
            .as_chunks::<4>();
        reader.zeros_to_unit(start)?;
        let mut end = 0_u64;
        let mut ends = Vec::with_capacity(count);
        for (i, length) in lengths.iter().enumerate() {
            let length = u32::from_be_bytes(*length);
            let presence = match length {
                0 => Presence::Absent,
                ERASED => return Err(Malformed::new(start + 4 * i, "body length")),
                _ if length & ERASED != 0 => Presence::Erased,
                _ => Presence::Shown,
            };
            end += u64::from(length & !ERASED);
            ends.push((end, presence));
        }
        let units = usize_of(reader, end)?;
        let at = reader.at();
        let bytes = reader.take(units.saturating_mul(UNIT), "bodies")?;
        let bodies = Bodies { bytes, ends };
        match (0..count).find(|&i| bodies.is_ill_erased(i)) {
            Some(i) => Err(Malformed::new(at + bodies.range(i).start, "erased body")),
            None => Ok(bodies),
        }
    }

    fn range(&self, i: usize) -> std::ops::Range<usize> {
        let end_of = |i: usize| self.ends.get(i).map_or(0, |(end, _)| *end as usize * UNIT);
        i.checked_sub(1).map_or(0, end_of)..end_of(i)
    }

    fn get(&self, i: usize) -> Body<'a> {
        match self.ends.get(i) {
            Some((_, Presence::Shown)) => Body::Shown(self.bytes.get(self.range(i)).unwrap_or_default()),
            Some((_, Presence::Erased)) => Body::Erased,
            _ => Body::Absent,
        }
    }

    /// Zero bytes stand where an erased body stood.
    fn is_ill_erased(&self, i: usize) -> bool {
        let erased = matches!(self.ends.get(i), Some((_, Presence::Erased)));
        erased && !is_zero(self.bytes.get(self.range(i)).unwrap_or_default())
    }
}

fn frame_ends(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u32>, Malformed> {
    let start = reader.at();
    let lengths = reader.take(count, "frame lengths")?;
    if let Some(i) = lengths.iter().position(|units| !(2..=30).contains(units)) {
        return Err(Malformed::new(start + i, "frame length"));
    }
    reader.zeros_to_unit(start)?;
    let mut end = 0;
    Ok(lengths
        .iter()
        .map(|units| {
            end += u32::from(*units);
            end
        })
        .collect())
}

fn usize_of(reader: &Reader<'_>, value: u64) -> Result<usize, Malformed> {
    usize::try_from(value).map_err(|_| Malformed::new(reader.at(), "length"))
}

pub(crate) fn padded_sum(lengths: &[usize]) -> usize {
    lengths.iter().map(|length| padded(*length)).sum()
}

//! What a flow's next container must fit on to.
use std::ops::{Deref, DerefMut};

use super::piece::Pair;
use crate::suite::Digest;
use crate::wire::{Malformed, Reader, pad};

/// Where the verification of a flow stands between two containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge(Box<Standing>);

/// What an edge holds; in a box, since few runs have one to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is known of the events before.
    pub(super) reach: Reach,
    /// The flow's genesis hash, once a container showed it.
    pub(super) genesis: Option<Digest>,
    /// The height that the next container should have, if known.
    pub(super) height: Option<u64>,
    /// The last position seen.
    pub(super) n: u64,
    /// The last fixed position seen.
    pub(super) fixed: u64,
    pub(super) hash: Pair,
    pub(super) ids: [Pair; 3],
    pub(super) hashes: [Pair; 3],
    /// What the last blocks say of the events still to come.
    pub(super) said: Vec<Said>,
    pub(super) when_max: Option<i64>,
    /// Whether `when_max` leaves out no event.
    pub(super) exact: bool,
    pub(super) recorded_at: Option<i64>,
    pub(super) sealed_at: Option<i64>,
    pub(super) epoch: u64,
    pub(super) closed: bool,
    pub(super) tail: bool,
}

/// A block's seam: the hash of an event that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// How many events come before it.
    pub ahead: u64,
    pub hash: Digest,
    /// The height of the block that says so.
    pub block: u64,
}

/// What is known of the events before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// There are none: the flow begins.
    Begin,
    /// The last ones are.
    Known,
    /// Nothing: they are not given, or could not be read.
    Unknown,
}

const VERSION: u8 = 1;
const NOTHING: Pair = Pair {
    recorded: [0; 32],
    recomputed: [0; 32],
};

impl Deref for Edge {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.0
    }
}

impl DerefMut for Edge {
    fn deref_mut(&mut self) -> &mut Standing {
        &mut self.0
    }
}

impl Edge {
    /// Before a flow's first event, or (`alone`) before anything that is known of it.
    pub(super) fn start(alone: bool) -> Edge {
        Edge(Box::new(Standing {
            reach: if alone { Reach::Unknown } else { Reach::Begin },
            genesis: None,
            height: (!alone).then_some(0),
            n: 0,
            fixed: 0,
            hash: NOTHING,
            ids: [NOTHING; 3],
            hashes: [NOTHING; 3],
            said: Vec::new(),
            when_max: None,
            exact: !alone,
            recorded_at: None,
            sealed_at: None,
            epoch: 0,
            closed: false,
            tail: false,
        }))
    }

    /// The last position seen.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The edge as bytes, for keeping. Not part of format 1: only this library reads them.
    pub fn encode(&self) -> Vec<u8> {
        let reach = match self.reach {
            Reach::Begin => 0,
            Reach::Known => 1,
            Reach::Unknown => 2,
        };
        let mut out = vec![VERSION, reach];
        let times = [self.when_max, self.recorded_at, self.sealed_at];
        let mut flags = vec![
            self.genesis.is_some(),
            self.height.is_some(),
            self.exact,
            self.closed,
            self.tail,
        ];
        flags.extend(times.iter().map(Option::is_some));
        out.extend(flags.into_iter().map(u8::from));
        for number in [self.height.unwrap_or_default(), self.n, self.fixed, self.epoch] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for time in times {
            out.extend_from_slice(&time.unwrap_or_default().to_be_bytes());
        }
        out.extend_from_slice(&self.genesis.unwrap_or_default());
        for pair in [&self.hash].into_iter().chain(&self.ids).chain(&self.hashes) {
            out.extend_from_slice(&pair.recorded);
            out.extend_from_slice(&pair.recomputed);
        }
        out.push(self.said.len() as u8);
        for said in &self.said {
            out.extend_from_slice(&said.ahead.to_be_bytes());
            out.extend_from_slice(&said.block.to_be_bytes());
            out.extend_from_slice(&said.hash);
        }
        pad(&mut out, 0);
        out
    }

    /// Reads what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<Edge, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(Malformed::new(0, "version"));
        }
        let reach = match reader.u8("reach")? {
            0 => Reach::Begin,
            1 => Reach::Known,
            2 => Reach::Unknown,
            _ => return Err(Malformed::new(1, "reach")),
        };
        let flags: [u8; 8] = *reader.array("flags")?;
        if flags.iter().any(|flag| *flag > 1) {
            return Err(Malformed::new(2, "flags"));
        }
        let [genesis, height, exact, closed, tail, when, recorded, sealed] = flags.map(|flag| flag == 1);
        let number = reader.counter("height")?;
        let height = reader.optional(height, number)?;
        let (n, fixed, epoch) = (
            reader.counter("n")?,
            reader.counter("fixed")?,
            reader.counter("epoch")?,
        );
        let times = [
            reader.time("when_max")?,
            reader.time("recorded_at")?,
            reader.time("sealed_at")?,
        ];
        let [when_max, recorded_at, sealed_at] = times;
        let when_max = reader.optional(when, when_max)?;
        let recorded_at = reader.optional(recorded, recorded_at)?;
        let sealed_at = reader.optional(sealed, sealed_at)?;
        let digest = *reader.digest("genesis")?;
        let genesis = reader.optional(genesis, digest)?;
        let mut pair = || {
            let recorded = *reader.digest("digest")?;
            let recomputed = *reader.digest("digest")?;
            Ok(Pair { recorded, recomputed })
        };
        let hash = pair()?;
        let ids = [pair()?, pair()?, pair()?];
        let hashes = [pair()?, pair()?, pair()?];
        let mut said = Vec::new();
        for _ in 0..reader.u8("said")? {
            let (ahead, block) = (reader.counter("ahead")?, reader.counter("block")?);
            said.push(Said {
                ahead,
                block,
                hash: *reader.digest("digest")?,
            });
        }
        reader.zeros_to_unit(0)?;
        reader.end()?;
        Ok(Edge(Box::new(Standing {
            reach,
            genesis,
            height,
            n,
            fixed,
            hash,
            ids,
            hashes,
            said,
            when_max,
            exact,
            recorded_at,
            sealed_at,
            epoch,
            closed,
            tail,
        })))
    }
}

//! Verifying packed containers, in parallel, over a source and a control. FORMAT.md, "Verification".
//!
//! First each container alone, in any order on all cores: every layer is recomputed from the *recorded* layer below
//! it, so that a fault is named where it was made. Then the edges between containers, in order. The verdict is the same
//! on one core as on many.
use std::ops::Range;

use rayon::prelude::*;

use crate::log::Ledger;

mod edge;
mod events;
mod fault;
mod fit;
mod group;
mod layers;
mod logged;
mod order;
mod pace;
mod piece;
mod read_at;
mod run;
mod view;

pub use edge::Edge;
pub use fault::{Datum, Fault, FaultClass};
pub use pace::Pace;
pub use read_at::ReadAt;

use group::{Held, Outcome, Spare};
use piece::{Context, Piece};
use run::{Linked, Linking};

/// Where the containers come from.
pub trait Source: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long one is, as far as that is known before it is read.
    fn size(&self, _index: usize) -> usize {
        0
    }

    /// Where one lies: what lies close together is best read together.
    fn place(&self, _index: usize) -> (usize, u64) {
        (0, 0)
    }

    /// The bytes of one, read into `buffer` or borrowed from the source. It may be asked for more than once.
    fn read<'a>(&'a self, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault>;

    /// The same of many, in their order. `buffers` may hold what was read before.
    fn read_each<'a>(
        &'a self,
        indexes: &[usize],
        buffers: &'a mut Vec<Vec<u8>>,
    ) -> Vec<Result<&'a [u8], ReadFault>> {
        buffers.resize_with(buffers.len().max(indexes.len()), Vec::new);
        let each = indexes.iter().zip(buffers);
        each.map(|(index, buffer)| self.read(*index, buffer)).collect()
    }

    /// The log that the containers are held against, if there is one.
    fn ledger(&self) -> Option<&Ledger> {
        None
    }
}

/// Containers, and the log that they are held against.
pub struct Against<'a, S: ?Sized> {
    /// Where the containers come from.
    pub source: &'a S,
    /// What the log says.
    pub ledger: &'a Ledger,
}

impl<S: Source + ?Sized> Source for Against<'_, S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn size(&self, index: usize) -> usize {
        self.source.size(index)
    }

    fn place(&self, index: usize) -> (usize, u64) {
        self.source.place(index)
    }

    fn read<'a>(&'a self, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        self.source.read(index, buffer)
    }

    fn read_each<'a>(
        &'a self,
        indexes: &[usize],
        buffers: &'a mut Vec<Vec<u8>>,
    ) -> Vec<Result<&'a [u8], ReadFault>> {
        self.source.read_each(indexes, buffers)
    }

    fn ledger(&self) -> Option<&Ledger> {
        Some(self.ledger)
    }
}

/// A container could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFault;

/// Containers in memory are a source.
impl<T: AsRef<[u8]> + Sync> Source for [T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }

    fn size(&self, index: usize) -> usize {
        self.get(index).map_or(0, |bytes| bytes.as_ref().len())
    }

    fn read<'a>(&'a self, index: usize, _: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        self.get(index).map(AsRef::as_ref).ok_or(ReadFault)
    }
}

/// How a verification is watched and stopped. Both are called from many threads; `advanced` may sleep, to pace it.
pub trait Control: Sync {
    /// Whether the verdict is no longer wanted.
    fn stopped(&self) -> bool;
    /// So many more events and bytes were verified.
    fn advanced(&self, events: u64, bytes: u64);
}

/// Never stops, tells nobody.
pub struct Unwatched;

impl Control for Unwatched {
    fn stopped(&self) -> bool {
        false
    }

    fn advanced(&self, _: u64, _: u64) {}
}

/// One flow's containers, in order.
#[derive(Clone, Debug)]
pub struct Run {
    /// The flow's id: the containers' genesis must say the same.
    pub flow: String,
    /// Which of the source's containers.
    pub pieces: Range<usize>,
    /// What an earlier call returned for the flow, if this one goes on from there.
    pub from: Option<Edge>,
    /// What must be there.
    pub expect: Expect,
    /// The flow goes on behind the last piece: nothing is missing there, and the verdict has an edge to go on from.
    pub more: bool,
    /// The first piece's predecessors are not given (a range of a flow), and nothing is said of that.
    pub alone: bool,
}

impl Run {
    /// A whole flow of which nothing more is known.
    pub fn whole(flow: &str, pieces: Range<usize>) -> Run {
        Run {
            flow: flow.to_owned(),
            pieces,
            from: None,
            expect: Expect::default(),
            more: false,
            alone: false,
        }
    }
}

/// What must be there, beyond what the containers say of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// A body that is not there is a fault.
    pub bodies: bool,
    /// The position of the last fixed event.
    pub fixed: Option<u64>,
    /// The position of the last settled event.
    pub last: Option<u64>,
    /// Whether the flow is closed.
    pub closed: Option<bool>,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Flows begun (one that goes on from an edge was counted before).
    pub flows: u64,
    /// Blocks looked at.
    pub blocks: u64,
    /// Events looked at.
    pub events: u64,
    /// Of these, in blocks.
    pub fixed: u64,
    /// Of these, in tails.
    pub provisional: u64,
    /// Bodies that are what their commitments say.
    pub bodies_verified: u64,
    /// Bodies that are not there, and so not verified.
    pub bodies_not_shown: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The faults: in the order of the runs, then by position, then by class. The lowest ones, if there are too many.
    pub faults: Vec<Fault>,
    /// How many faults there are in all.
    pub fault_count: u64,
    /// For each run with `more`, where to go on from.
    pub edges: Vec<Option<Edge>>,
    /// It was stopped: counts and faults are of a part only.
    pub stopped: bool,
}

/// So many faults are held until their place in the verdict is known: about 10 MB of them.
const HELD: usize = 1 << 16;

/// Verifies the runs in the current rayon pool. At most `max_faults` faults are kept.
pub fn verify<S: Source + ?Sized>(
    source: &S,
    runs: &[Run],
    control: &dyn Control,
    max_faults: usize,
) -> Verdict {
    verify_holding(HELD, source, runs, control, max_faults)
}

/// `verify`, with so many faults held; the verdict is the same.
pub(crate) fn verify_holding<'r, S: Source + ?Sized>(
    held: usize,
    source: &S,
    runs: &'r [Run],
    control: &'r dyn Control,
    max_faults: usize,
) -> Verdict {
    let contexts = |run: &'r Run, most| {
        let context = move |index| Context::new(run, index, control, most);
        run.pieces.clone().map(context)
    };
    // As they lie, so that what is read moves on; the verdict is in the order of the runs all the same.
    let mut order: Vec<(usize, &'r Run)> = runs.iter().enumerate().collect();
    order.sort_by_key(|(_, run)| source.place(run.pieces.start));
    let work: Vec<Context> = order
        .iter()
        .flat_map(|(_, run)| contexts(run, max_faults))
        .collect();
    let held = Held::up_to(held);
    let spare = Spare::default();
    let outcomes: Vec<Outcome> = group::cut(source, &work)
        .into_par_iter()
        .map(|group| spare.with(|buffers| group::outcomes(source, group, &held, buffers)))
        .flatten_iter()
        .collect();
    let mut outcomes = outcomes.into_iter();
    let mut made: Vec<(Option<Linked>, Vec<Piece>)> = Vec::new();
    made.resize_with(runs.len(), Default::default);
    for (i, run) in order {
        if let Some(own) = made.get_mut(i) {
            *own = of_run(run, &mut outcomes);
        }
    }
    let mut verdict = Verdict::default();
    for (run, (mut linked, mut pieces)) in runs.iter().zip(made) {
        let room = max_faults.saturating_sub(verdict.faults.len());
        if linked.as_ref().is_some_and(|linked| linked.forgotten) && room > 0 {
            linked = None;
            let contexts: Vec<Context> = contexts(run, room).collect();
            pieces = group::check(source, &contexts, &mut Vec::new());
        }
        let link = || Linking::new(source, run, &pieces, control, room).link();
        verdict.add(linked.unwrap_or_else(link), room);
    }
    verdict.stopped |= control.stopped();
    verdict
}

/// What came of one run's containers.
fn of_run(run: &Run, outcomes: &mut impl Iterator<Item = Outcome>) -> (Option<Linked>, Vec<Piece>) {
    let mut pieces = Vec::new();
    while pieces.len() < run.pieces.len() {
        match outcomes.next() {
            Some(Outcome::Linked(whole)) => return (Some(whole), pieces),
            Some(Outcome::Piece(piece)) => pieces.push(piece),
            None => break,
        }
    }
    (None, pieces)
}

impl Verdict {
    /// Adds what was found of what comes after, whose edges are then this one's. At most `max_faults` faults are kept.
    pub fn append(&mut self, next: Verdict, max_faults: usize) {
        self.flows += next.flows;
        self.blocks += next.blocks;
        self.events += next.events;
        self.fixed += next.fixed;
        self.provisional += next.provisional;
        self.bodies_verified += next.bodies_verified;
        self.bodies_not_shown += next.bodies_not_shown;
        self.bytes += next.bytes;
        self.fault_count += next.fault_count;
        self.faults.extend(next.faults);
        self.faults.truncate(max_faults);
        self.edges = next.edges;
        self.stopped |= next.stopped;
    }

    fn add(&mut self, run: Linked, room: usize) {
        self.flows += u64::from(run.begun);
        self.stopped |= run.stopped;
        self.blocks += run.counted.blocks;
        self.events += run.counted.fixed + run.counted.provisional;
        self.fixed += run.counted.fixed;
        self.provisional += run.counted.provisional;
        self.bodies_verified += run.counted.bodies_verified;
        self.bodies_not_shown += run.counted.bodies_not_shown;
        self.bytes += run.counted.bytes;
        self.fault_count += run.fault_count;
        self.faults.extend(run.faults.into_iter().take(room));
        self.edges.push(run.edge);
    }
}

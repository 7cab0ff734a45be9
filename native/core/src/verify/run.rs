//! A flow's containers, in order: whether each fits on to the one before.
use super::edge::Reach;
use super::fault::{Datum, FaultClass, Faults, Found};
use super::fit::{Notes, Place, begins};
use super::logged::Holding;
use super::order::Earlier;
use super::piece::{Checked, Context, Pair, Piece, State, Unopened};
use super::{Control, Edge, Fault, Run, Source, group};
use crate::block::Seams;
use crate::suite::Digest;

pub(super) struct Linking<'a, S: ?Sized> {
    pub source: &'a S,
    pub run: &'a Run,
    pub pieces: &'a [Piece],
    pub control: &'a dyn Control,
    pub max_faults: usize,
}

/// What came of a run.
pub(super) struct Linked {
    pub begun: bool,
    pub stopped: bool,
    pub counted: Counted,
    pub faults: Vec<Fault>,
    pub fault_count: u64,
    /// There are faults, and they were not kept.
    pub forgotten: bool,
    pub edge: Option<Edge>,
}

/// What a run adds to the verdict's counts.
#[derive(Default)]
pub(super) struct Counted {
    pub blocks: u64,
    pub fixed: u64,
    pub provisional: u64,
    pub bodies_verified: u64,
    pub bodies_not_shown: u64,
    pub bytes: u64,
}

impl Counted {
    fn add(&mut self, piece: &Piece) {
        self.bytes += piece.bytes;
        let Some(checked) = piece.checked() else { return };
        let events = u64::from(checked.header.count);
        if checked.tail {
            self.provisional += events;
        } else {
            self.blocks += 1;
            self.fixed += events;
        }
        self.bodies_verified += checked.bodies_verified;
        self.bodies_not_shown += checked.bodies_not_shown;
    }
}

impl<'a, S: Source + ?Sized> Linking<'a, S> {
    pub fn new(
        source: &'a S,
        run: &'a Run,
        pieces: &'a [Piece],
        control: &'a dyn Control,
        max_faults: usize,
    ) -> Self {
        Linking {
            source,
            run,
            pieces,
            control,
            max_faults,
        }
    }

    pub fn link(&self) -> Linked {
        let mut counted = Counted::default();
        self.pieces.iter().for_each(|piece| counted.add(piece));
        let stopped = self.pieces.iter().any(Piece::is_stopped);
        let begun = self.run.from.is_none();
        if stopped {
            return Linked {
                begun,
                stopped,
                counted,
                faults: Vec::new(),
                fault_count: 0,
                forgotten: false,
                edge: None,
            };
        }
        let mut edge = self
            .run
            .from
            .clone()
            .unwrap_or_else(|| Edge::start(self.run.alone));
        let mut faults = Faults::new(self.max_faults);
        let mut log = Holding::new(self.source.ledger(), self.run);
        for (index, piece) in self.pieces.iter().enumerate() {
            let n = edge.n();
            match &piece.state {
                State::Unopened(Unopened::Stopped) => {}
                State::Unopened(Unopened::Unreadable) => {
                    log.lose(n);
                    edge.lose(&mut faults, FaultClass::Read, Datum::None)
                }
                State::Unopened(Unopened::Malformed(malformed)) => {
                    log.lose(n);
                    edge.lose(&mut faults, FaultClass::Format, malformed.at.into());
                }
                State::Checked(checked) => self.fit(&mut edge, checked, index, &mut faults, &mut log),
            }
        }
        if !self.run.more {
            edge.finish(self.run, &mut faults);
        }
        log.finish(edge.genesis.as_ref(), &mut faults);
        let fault_count = faults.count();
        let faults = faults
            .into_sorted()
            .into_iter()
            .map(|found| self.fault(found))
            .collect();
        Linked {
            begun,
            stopped,
            counted,
            faults,
            fault_count,
            forgotten: false,
            edge: self.run.more.then_some(edge),
        }
    }

    fn fault(&self, found: Found) -> Fault {
        Fault {
            flow: self.run.flow.clone(),
            position: found.at,
            block: found.block,
            class: found.class,
            recorded: found.recorded,
            recomputed: found.recomputed,
        }
    }

    fn fit(
        &self,
        edge: &mut Edge,
        checked: &Checked,
        index: usize,
        faults: &mut Faults,
        log: &mut Holding<'_>,
    ) {
        let block = (!checked.tail).then_some(checked.header.height);
        let mut note = Notes { faults, block };
        if checked.foreign || edge.genesis.is_some_and(|genesis| genesis != checked.genesis) {
            let at = edge.expected().unwrap_or(checked.header.first);
            if !checked.foreign {
                note.add(
                    at,
                    FaultClass::Genesis,
                    checked.genesis,
                    edge.genesis.unwrap_or_default(),
                );
            }
            let found = self.faults(checked, index, at, note.faults);
            note.faults.take(found, at, block);
            log.lose(edge.n());
            return edge.skip();
        }
        edge.learn_genesis(checked.genesis);
        let place = edge.place(checked, &mut note);
        let block = (!checked.tail).then_some(place.height);
        let mut note = Notes {
            faults: note.faults,
            block,
        };
        let again = self.again(edge, checked, index, place);
        let checked = again.as_ref().and_then(Piece::checked).unwrap_or(checked);
        let found = self.faults(checked, index, place.first, note.faults);
        note.faults.take(found, place.first, block);
        if edge.closed {
            note.add(place.first, FaultClass::Close, place.first, edge.n);
        }
        if place.contiguous {
            edge.compare(checked, place.first, &mut note);
        } else {
            begins(checked, place.first, &mut note);
        }
        log.hold(checked, place, &mut note);
        edge.pass(checked, place);
    }

    /// A container's faults, looked for again if they were forgotten and may be among the lowest.
    fn faults(&self, checked: &Checked, index: usize, base: u64, known: &Faults) -> Faults {
        if !checked.faults.is_forgotten() || known.is_full_before(base) {
            return checked.faults.clone();
        }
        let index = self.run.pieces.start + index;
        let context = Context::new(self.run, index, self.control, self.max_faults);
        let again = group::check(self.source, &[context], &mut Vec::new()).pop();
        let again = again.as_ref().and_then(Piece::checked).unwrap_or(checked);
        again.faults.clone()
    }

    /// A container that fails with its recorded seams may hold with its neighbours' values: then the seams alone are at
    /// fault. The late flags may hang on what came before. So check it again with what is known now.
    fn again(&self, edge: &Edge, checked: &Checked, index: usize, place: Place) -> Option<Piece> {
        let known = edge.reach != Reach::Unknown && place.contiguous;
        let earlier = Earlier {
            when_max: edge.when_max,
            exact: edge.exact && known,
        };
        let seams = self.neighbours(edge, checked, index, known);
        let linked = checked.faults.has(FaultClass::Id) || checked.faults.has(FaultClass::Provisional);
        let relink = place.first != checked.header.first || linked && seams != checked.seams;
        if !relink && checked.order.fits(earlier) {
            return None;
        }
        let check = |seams: Option<Seams>, first: Option<u64>| {
            let index = self.run.pieces.start + index;
            let context = Context {
                earlier,
                seams,
                first,
                ..Context::new(self.run, index, self.control, self.max_faults)
            };
            group::check(self.source, &[context], &mut Vec::new()).pop()
        };
        let with_recorded = check(None, None);
        if !relink {
            return with_recorded;
        }
        let with_neighbours = check(Some(seams), Some(place.first));
        let faults = |piece: &Piece| piece.checked().map(|checked| checked.faults.count());
        let count = |piece: &Option<Piece>| piece.as_ref().and_then(faults).unwrap_or(u64::MAX);
        let better = count(&with_neighbours) < count(&with_recorded);
        if better { with_neighbours } else { with_recorded }
    }

    /// The seams as the neighbours have them.
    fn neighbours(&self, edge: &Edge, checked: &Checked, index: usize, known: bool) -> Seams {
        let mut seams = checked.seams;
        if known {
            let [_, second, first] = edge.hashes;
            let take = |pair: &Pair, own: &mut Digest| {
                if !pair.admits(own) {
                    *own = pair.recorded;
                }
            };
            edge.ids
                .iter()
                .zip(&mut seams.ids)
                .for_each(|(pair, own)| take(pair, own));
            [second, first]
                .iter()
                .zip(&mut seams.hashes)
                .for_each(|(pair, own)| take(pair, own));
        }
        if !checked.tail {
            let next = self.following(checked, index);
            for (pair, own) in next.iter().zip(&mut seams.next_hashes) {
                if !pair.admits(own) {
                    *own = pair.recorded;
                }
            }
        }
        seams
    }

    /// The hashes of up to three events behind a block, where containers follow without a gap.
    fn following(&self, checked: &Checked, index: usize) -> Vec<Pair> {
        let mut next = Vec::with_capacity(4);
        let mut first = checked.header.last() + 1;
        for piece in self.pieces.iter().skip(index + 1).map_while(Piece::checked) {
            if next.len() >= 3 || piece.header.first != first || piece.genesis != checked.genesis {
                break;
            }
            next.extend_from_slice(&piece.first_hashes);
            first = piece.header.last() + 1;
        }
        next
    }
}

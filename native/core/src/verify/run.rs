//! A flow's containers, in order: whether each fits on to the one before.
use super::edge::{Reach, Said};
use super::fault::{Datum, FaultClass, Faults, Found};
use super::piece::{Checked, Context, Earlier, Pair, Piece, State};
use super::{Control, Edge, Fault, Run, Source};
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
    pub counted: Vec<Counted>,
    pub faults: Vec<Fault>,
    pub fault_count: u64,
    pub edge: Option<Edge>,
}

/// What a piece adds to the verdict's counts.
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
    fn of(piece: &Piece) -> Counted {
        let bytes = Counted {
            bytes: piece.bytes,
            ..Counted::default()
        };
        let Some(checked) = piece.checked() else {
            return bytes;
        };
        let events = u64::from(checked.header.count);
        let (fixed, provisional) = if checked.tail { (0, events) } else { (events, 0) };
        Counted {
            blocks: u64::from(!checked.tail),
            fixed,
            provisional,
            bodies_verified: checked.bodies_verified,
            bodies_not_shown: checked.bodies_not_shown,
            ..bytes
        }
    }
}

impl<S: Source + ?Sized> Linking<'_, S> {
    pub fn link(&self) -> Linked {
        let counted: Vec<Counted> = self.pieces.iter().map(Counted::of).collect();
        let begun = self.run.from.is_none();
        if self.pieces.iter().any(Piece::is_stopped) {
            return Linked {
                begun,
                counted,
                faults: Vec::new(),
                fault_count: 0,
                edge: None,
            };
        }
        let mut edge = self
            .run
            .from
            .clone()
            .unwrap_or_else(|| Edge::start(self.run.alone));
        let mut faults = Faults::new(self.max_faults);
        for (index, piece) in self.pieces.iter().enumerate() {
            match &piece.state {
                State::Stopped => {}
                State::Unreadable => edge.lose(&mut faults, FaultClass::Read, Datum::None),
                State::Malformed(malformed) => {
                    edge.lose(&mut faults, FaultClass::Format, malformed.at.into());
                }
                State::Checked(checked) => self.fit(&mut edge, checked, index, &mut faults),
            }
        }
        if !self.run.more {
            edge.finish(self.run, &mut faults);
        }
        let fault_count = faults.count();
        let faults = faults
            .into_sorted()
            .into_iter()
            .map(|found| self.fault(found))
            .collect();
        Linked {
            begun,
            counted,
            faults,
            fault_count,
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

    fn fit(&self, edge: &mut Edge, checked: &Checked, index: usize, faults: &mut Faults) {
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
            note.faults.take(checked.faults.clone(), at, block);
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
        note.faults.take(checked.faults.clone(), place.first, block);
        if edge.closed {
            note.add(place.first, FaultClass::Close, place.first, edge.n);
        }
        if place.contiguous {
            edge.compare(checked, place.first, &mut note);
        } else {
            begins(checked, place.first, &mut note);
        }
        edge.pass(checked, place);
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
            let (run, control, most) = (self.run, self.control, self.max_faults);
            let context = Context {
                run,
                control,
                most,
                earlier,
                seams,
                first,
            };
            let index = self.run.pieces.start + index;
            Piece::check(self.source, index, &context, &mut Vec::new())
        };
        let with_recorded = check(None, None);
        if !relink {
            return Some(with_recorded);
        }
        let with_neighbours = check(Some(seams), Some(place.first));
        let count = |piece: &Piece| piece.checked().map_or(u64::MAX, |checked| checked.faults.count());
        let better = count(&with_neighbours) < count(&with_recorded);
        Some(if better { with_neighbours } else { with_recorded })
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

/// Adds faults that a block records.
struct Notes<'a> {
    faults: &'a mut Faults,
    block: Option<u64>,
}

impl Notes<'_> {
    fn add(&mut self, at: u64, class: FaultClass, recorded: impl Into<Datum>, recomputed: impl Into<Datum>) {
        let (recorded, recomputed) = (recorded.into(), recomputed.into());
        self.faults.push(Found {
            at,
            class,
            block: self.block,
            recorded,
            recomputed,
        });
    }
}

/// Where a container stands.
#[derive(Clone, Copy)]
struct Place {
    first: u64,
    height: u64,
    /// It begins right behind the one before.
    contiguous: bool,
}

impl Edge {
    /// The position that must come next, if known.
    fn expected(&self) -> Option<u64> {
        (self.reach != Reach::Unknown).then_some(self.n + 1)
    }

    /// A container that says nothing: what comes next is taken as it is.
    fn lose(&mut self, faults: &mut Faults, class: FaultClass, recorded: Datum) {
        let block = self.height.filter(|_| !self.closed);
        faults.push(Found {
            at: self.n + 1,
            class,
            block,
            recorded,
            recomputed: Datum::None,
        });
        self.skip();
    }

    fn skip(&mut self) {
        self.reach = Reach::Unknown;
        self.height = self.height.map(|height| height + 1);
        self.said.clear();
        self.exact = false;
    }

    fn learn_genesis(&mut self, genesis: Digest) {
        self.genesis = Some(genesis);
        if self.reach == Reach::Begin {
            let none = Pair::same(genesis);
            (self.hash, self.ids, self.hashes) = (none, [none; 3], [none; 3]);
        }
    }

    /// Where a container stands: where it says, unless its header is at fault and says otherwise than its neighbours.
    fn place(&self, checked: &Checked, note: &mut Notes<'_>) -> Place {
        let (first, height) = (checked.header.first, checked.header.height);
        let expected = self.expected().unwrap_or(first);
        // A tail has no hash over its header, but its provisional ids are taken of the position.
        let forged = !checked.sound || checked.faults.has(FaultClass::Provisional);
        let next_height = self.height.unwrap_or(height);
        let mut place = Place {
            first,
            height,
            contiguous: self.reach != Reach::Unknown,
        };
        if forged && height != next_height {
            place.height = next_height;
            note.block = note.block.map(|_| next_height);
        }
        // A position that its own hash denies is nobody's.
        let lowest = if forged { expected } else { first.min(expected) };
        if first != expected || self.tail {
            note.add(lowest, FaultClass::Position, first, expected);
            place.contiguous = forged && !self.tail;
            place.first = if place.contiguous { expected } else { first };
        }
        if height != next_height {
            note.add(lowest, FaultClass::Height, height, next_height);
        }
        place
    }

    fn compare(&self, checked: &Checked, first: u64, note: &mut Notes<'_>) {
        let header = &checked.header;
        if !self.hash.admits(&header.previous) {
            note.add(first, FaultClass::Previous, header.previous, self.hash.recorded);
        }
        let [_, second, latest] = self.hashes;
        let ids = checked.seams.ids.iter().zip(self.ids).zip([3, 2, 1]);
        let hashes = checked.seams.hashes.iter().zip([second, latest]).zip([2, 1]);
        // What stands before position 1 the container was checked for alone.
        for ((own, pair), _) in ids.chain(hashes).filter(|(_, back)| first > *back) {
            if !pair.admits(own) {
                note.add(first, FaultClass::Seam, *own, pair.recorded);
            }
        }
        self.compare_said(checked, first, note);
        if let Some((i, recorded_at)) = checked.order.recorded_first
            && let Some(before) = self.recorded_at.filter(|before| *before > recorded_at)
        {
            note.add(
                first.saturating_add(i),
                FaultClass::RecordedAt,
                recorded_at,
                before,
            );
        }
        if checked.tail {
            return;
        }
        if let Some(before) = self.sealed_at.filter(|before| *before > header.sealed_at) {
            note.add(first, FaultClass::SealedAt, header.sealed_at, before);
        }
        if header.epoch < self.epoch {
            note.add(first, FaultClass::Epoch, header.epoch, self.epoch);
        }
    }

    /// The events against what the blocks before said would come.
    fn compare_said(&self, checked: &Checked, first: u64, note: &mut Notes<'_>) {
        for said in &self.said {
            let pair = usize::try_from(said.ahead)
                .ok()
                .and_then(|ahead| checked.first_hashes.get(ahead));
            if let Some(pair) = pair.filter(|pair| !pair.admits(&said.hash)) {
                let at = first.saturating_add(said.ahead);
                let mut note = Notes {
                    faults: note.faults,
                    block: Some(said.block),
                };
                note.add(at, FaultClass::Seam, said.hash, pair.recorded);
            }
        }
    }

    /// Forgets what was said of events that came, and takes over what this block says of those behind it.
    fn say(&mut self, checked: &Checked, height: u64) {
        let count = u64::from(checked.header.count);
        self.said.retain_mut(|said| {
            let later = said.ahead >= count;
            said.ahead = said.ahead.saturating_sub(count);
            later
        });
        if checked.tail || checked.header.closes {
            return;
        }
        for (hash, ahead) in checked.seams.next_hashes.iter().zip(0..) {
            if !self
                .said
                .iter()
                .any(|said| (said.ahead, &said.hash) == (ahead, hash))
            {
                self.said.push(Said {
                    ahead,
                    hash: *hash,
                    block: height,
                });
            }
        }
    }

    /// Moves on behind a container.
    fn pass(&mut self, checked: &Checked, place: Place) {
        let header = &checked.header;
        let count = u64::from(header.count);
        if !place.contiguous {
            let [second, latest] = checked.seams.hashes.map(Pair::same);
            self.ids = checked.seams.ids.map(Pair::same);
            self.hashes = [latest, second, latest];
            self.exact = false;
            self.said.clear();
        }
        self.exact &= checked.order.exact;
        self.say(checked, place.height);
        self.reach = Reach::Known;
        self.n = place.first.saturating_add(count).saturating_sub(1);
        shift(&mut self.ids, &checked.last_ids);
        shift(&mut self.hashes, &checked.last_hashes);
        self.when_max = self.when_max.max(checked.order.when_max);
        self.recorded_at = checked.order.recorded_last.or(self.recorded_at);
        if checked.tail {
            self.tail = true;
            return;
        }
        self.fixed = self.n;
        self.height = Some(place.height.saturating_add(1));
        self.hash = checked.hash;
        self.closed = header.closes;
        self.sealed_at = self.sealed_at.max(Some(header.sealed_at));
        self.epoch = self.epoch.max(header.epoch);
    }

    /// What must be there at the end of a flow.
    fn finish(&self, run: &Run, faults: &mut Faults) {
        let mut note = Notes { faults, block: None };
        let lost = self.reach == Reach::Unknown && !run.pieces.is_empty();
        let last = run.expect.last.filter(|_| !lost);
        if let Some(said) = self.said.iter().min_by_key(|said| said.ahead) {
            note.add(
                self.n + 1 + said.ahead,
                FaultClass::Missing,
                Datum::None,
                said.hash,
            );
        } else if let Some(last) = last.filter(|last| *last > self.n) {
            note.add(self.n + 1, FaultClass::Missing, self.n, last);
        } else if let Some(fixed) = run.expect.fixed.filter(|fixed| *fixed > self.fixed && !lost) {
            note.add(self.fixed + 1, FaultClass::Missing, self.fixed, fixed);
        }
        if let Some(last) = last.filter(|last| *last < self.n) {
            note.add(last.saturating_add(1), FaultClass::Position, self.n, last);
        } else if let Some(fixed) = run.expect.fixed.filter(|fixed| *fixed < self.fixed && !lost) {
            note.add(fixed.saturating_add(1), FaultClass::Position, self.fixed, fixed);
        }
        if let Some(closed) = run.expect.closed.filter(|closed| *closed != self.closed && !lost) {
            note.add(self.n.max(1), FaultClass::Close, self.closed, closed);
        }
    }
}

/// Height 0, first 1 and previous = G come together; with neighbours, these tell already.
fn begins(checked: &Checked, first: u64, note: &mut Notes<'_>) {
    let header = &checked.header;
    if (header.height == 0) != (header.first == 1) {
        note.add(first, FaultClass::Height, header.height, Datum::None);
    }
    if (header.previous == checked.genesis) != (header.first == 1) {
        note.add(first, FaultClass::Previous, header.previous, Datum::None);
    }
}

fn shift(window: &mut [Pair; 3], run: &[Pair]) {
    for pair in run {
        let [_, second, first] = *window;
        *window = [second, first, *pair];
    }
}

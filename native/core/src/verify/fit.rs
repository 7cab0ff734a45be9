//! Whether a container fits on to what came before.
use super::Run;
use super::edge::{Edge, Reach, Said};
use super::fault::{Datum, FaultClass, Faults, Found};
use super::piece::{Checked, Pair};
use crate::suite::Digest;

/// Adds faults that a block records.
pub(super) struct Notes<'a> {
    pub faults: &'a mut Faults,
    pub block: Option<u64>,
}

impl Notes<'_> {
    pub(super) fn add(
        &mut self,
        at: u64,
        class: FaultClass,
        recorded: impl Into<Datum>,
        recomputed: impl Into<Datum>,
    ) {
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
pub(super) struct Place {
    pub first: u64,
    pub height: u64,
    /// It begins right behind the one before.
    pub contiguous: bool,
}

impl Edge {
    /// The position that must come next, if known.
    pub(super) fn expected(&self) -> Option<u64> {
        (self.reach != Reach::Unknown).then_some(self.n + 1)
    }

    /// A container that says nothing: what comes next is taken as it is.
    pub(super) fn lose(&mut self, faults: &mut Faults, class: FaultClass, recorded: Datum) {
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

    pub(super) fn skip(&mut self) {
        self.reach = Reach::Unknown;
        self.height = self.height.map(|height| height + 1);
        self.said.clear();
        self.exact = false;
    }

    pub(super) fn learn_genesis(&mut self, genesis: Digest) {
        self.genesis = Some(genesis);
        if self.reach == Reach::Begin {
            let none = Pair::same(genesis);
            (self.hash, self.ids, self.hashes) = (none, [none; 3], [none; 3]);
        }
    }

    /// Where a container stands: where it says, unless its header is at fault and says otherwise than its neighbours.
    pub(super) fn place(&self, checked: &Checked, note: &mut Notes<'_>) -> Place {
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

    pub(super) fn compare(&self, checked: &Checked, first: u64, note: &mut Notes<'_>) {
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
    pub(super) fn pass(&mut self, checked: &Checked, place: Place) {
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
    pub(super) fn finish(&self, run: &Run, faults: &mut Faults) {
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
pub(super) fn begins(checked: &Checked, first: u64, note: &mut Notes<'_>) {
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

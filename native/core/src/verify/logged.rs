//! Containers against what the log says of them, and a flow's end against all that it says of the flow.
use super::Run;
use super::fault::{Datum, FaultClass, Faults, Found};
use super::fit::{Notes, Place};
use super::piece::{Checked, Whole};
use super::view::View;
use crate::link::provided;
use crate::log::{Ledger, Stray};
use crate::suite::{Digest, Role, Suite, hash_each};

/// What the log says of a container otherwise than it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Logged {
    pub block: Leafed,
    /// Tails' leaves: how far behind the first event, what the leaf says, and what Pₙ is.
    pub tails: Vec<(u64, Digest, Digest)>,
}

/// What a block's leaf says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Leafed {
    /// Nobody asked, or the container is no block.
    #[default]
    Unasked,
    Absent,
    Same,
    /// Something else, and what it should be.
    Differs(Datum, Datum),
}

/// Holds containers of one suite against the log.
pub(super) fn held(ledger: &Ledger, suite: Suite, views: &[View<'_>], wholes: &[Whole]) -> Vec<Logged> {
    let mut all: Vec<Logged> = Vec::with_capacity(views.len());
    let (mut asked, mut inputs) = (Vec::new(), Vec::new());
    for (of, (view, whole)) in views.iter().zip(wholes).enumerate() {
        let mut logged = Logged::default();
        let known = ledger.of(&view.genesis).filter(|known| known.suite() == suite);
        if !view.container.is_tail() {
            let leaf = known.and_then(|known| known.block(view.container.header().height));
            logged.block = view.leafed(leaf.map(|leaf| (leaf.digest, leaf.last)), whole);
        }
        let last = view.first.saturating_add(view.container.count() as u64 - 1);
        let tails = known
            .into_iter()
            .flat_map(|known| known.tails_within(view.first, last));
        for leaf in tails {
            let i = leaf.last - view.first;
            match view.recorded_provisional(i) {
                Some(recorded) if recorded == leaf.digest => {}
                Some(recorded) => logged.tails.push((i, leaf.digest, recorded)),
                None => {
                    asked.push((of, i, leaf.digest));
                    inputs.push(view.provided(i as isize, leaf.last));
                }
            }
        }
        all.push(logged);
    }
    let mut digests = Vec::with_capacity(inputs.len());
    let inputs: Vec<&[u8]> = inputs.iter().map(<[u8; _]>::as_slice).collect();
    hash_each(suite, Role::Provisional, &inputs, &mut digests);
    for ((of, i, said), made) in asked
        .into_iter()
        .zip(digests)
        .filter(|((_, _, said), made)| said != made)
    {
        if let Some(logged) = all.get_mut(of) {
            logged.tails.push((i, said, made));
        }
    }
    all
}

/// A flow held against the log, container by container.
pub(super) struct Holding<'a> {
    ledger: Option<&'a Ledger>,
    run: &'a Run,
    /// What differs now is dragged along by what differed before.
    drags: bool,
    /// Behind this position a container could not be read.
    lost: Option<u64>,
}

impl<'a> Holding<'a> {
    pub fn new(ledger: Option<&'a Ledger>, run: &'a Run) -> Self {
        Holding {
            ledger,
            run,
            drags: false,
            lost: None,
        }
    }

    pub fn lose(&mut self, n: u64) {
        self.lost.get_or_insert(n);
    }

    /// A container that is at fault itself has said so.
    pub fn hold(&mut self, checked: &Checked, place: Place, note: &mut Notes<'_>) {
        if checked.faults.count() > 0 {
            return;
        }
        match checked.logged.block {
            Leafed::Unasked => {}
            Leafed::Same => self.drags = false,
            Leafed::Absent => self.stray(checked),
            Leafed::Differs(recorded, recomputed) => self.differs(place.first, recorded, recomputed, note),
        }
        for (i, recorded, recomputed) in &checked.logged.tails {
            self.differs(place.first + i, (*recorded).into(), (*recomputed).into(), note);
        }
    }

    fn differs(&mut self, at: u64, recorded: Datum, recomputed: Datum, note: &mut Notes<'_>) {
        if !std::mem::replace(&mut self.drags, true) {
            note.add(at, FaultClass::Log, recorded, recomputed);
        }
    }

    fn stray(&self, checked: &Checked) {
        let header = &checked.header;
        if let Some(ledger) = self.ledger {
            ledger.stray(Stray {
                flow: self.run.flow.clone(),
                genesis: checked.genesis,
                height: header.height,
                first: header.first,
                last: header.last(),
                hash: checked.hash.recorded,
            });
        }
    }

    /// Whatever the log says of the flow must have been there, now that all of it was.
    pub fn finish(&self, genesis: Option<&Digest>, faults: &mut Faults) {
        let known = genesis
            .zip(self.ledger)
            .and_then(|(genesis, ledger)| ledger.of(genesis));
        let Some(known) = known else { return };
        if let Some(n) = self.lost {
            known.excuse(n + 1);
        }
        if self.run.more {
            return;
        }
        for discord in known.finish() {
            faults.push(Found {
                at: discord.position,
                class: FaultClass::Log,
                block: discord.block,
                recorded: discord.recorded.into(),
                recomputed: discord.other.map_or(Datum::None, Datum::Digest),
            });
        }
    }
}

impl View<'_> {
    fn leafed(&self, leaf: Option<(Digest, u64)>, whole: &Whole) -> Leafed {
        let last = self.container.last();
        match leaf {
            None => Leafed::Absent,
            Some((hash, _)) if hash != whole.hash => Leafed::Differs(hash.into(), whole.hash.into()),
            Some((_, said)) if said != last => Leafed::Differs(said.into(), last.into()),
            Some(_) => Leafed::Same,
        }
    }

    /// Pₙ as a tail records it. A block records none.
    fn recorded_provisional(&self, i: u64) -> Option<Digest> {
        let ids = self.container.ids();
        usize::try_from(i)
            .ok()
            .and_then(|i| ids.get(i).copied())
            .filter(|_| self.container.is_tail())
    }

    /// What Pₙ of a block's event is the hash of.
    fn provided(&self, i: isize, n: u64) -> [u8; 192] {
        let hashes = [self.hash(i - 2), self.hash(i - 1), self.hash(i)];
        provided(&self.genesis, &self.id(i - 3), &hashes, n)
    }
}

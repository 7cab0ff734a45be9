//! One container, checked alone.
use std::ops::{Deref, Range};

use super::events::Part;
use super::fault::{FaultClass, Faults};
use super::logged::Logged;
use super::order::{Earlier, Order};
use super::view::{View, lookup};
use super::{Control, Run};
use crate::block::{Header, Seams};
use crate::suite::Digest;
use crate::wire::Malformed;

/// What is recorded, and what it should be if it is at fault. Whoever builds upon it may build upon either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub recorded: Digest,
    pub recomputed: Digest,
}

impl Pair {
    pub fn same(digest: Digest) -> Pair {
        Pair {
            recorded: digest,
            recomputed: digest,
        }
    }

    pub fn admits(&self, digest: &Digest) -> bool {
        self.recorded == *digest || self.recomputed == *digest
    }
}

/// Up to three of a container's values, from one of its ends.
#[derive(Clone, Copy)]
pub(super) struct Three {
    pairs: [Pair; 3],
    count: usize,
}

impl Three {
    fn of(range: Range<usize>, pair: impl Fn(usize) -> Pair) -> Three {
        let count = range.len().min(3);
        let mut pairs = [Pair::same([0; 32]); 3];
        pairs.iter_mut().zip(range).for_each(|(room, i)| *room = pair(i));
        Three { pairs, count }
    }
}

impl Deref for Three {
    type Target = [Pair];

    fn deref(&self) -> &[Pair] {
        self.pairs.get(..self.count).unwrap_or_default()
    }
}

pub(super) struct Piece {
    pub bytes: u64,
    pub state: State,
}

pub(super) enum State {
    Unopened(Unopened),
    Checked(Box<Checked>),
}

/// Why a container was not checked.
#[derive(Clone, Copy)]
pub(super) enum Unopened {
    Stopped,
    Unreadable,
    Malformed(Malformed),
}

/// What a container is checked against.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub run: &'a Run,
    /// Which of the source's containers.
    pub index: usize,
    pub control: &'a dyn Control,
    pub most: usize,
    pub earlier: Earlier,
    /// The neighbours' values in place of the recorded seams.
    pub seams: Option<Seams>,
    /// The position that the first event should have.
    pub first: Option<u64>,
}

pub(super) struct Checked {
    pub header: Header,
    pub tail: bool,
    pub seams: Seams,
    /// G, as the container's ids bear it out.
    pub genesis: Digest,
    /// The genesis names another flow.
    pub foreign: bool,
    pub faults: Faults,
    /// The block hash holds, or would if a field were not at fault that is named.
    pub sound: bool,
    pub hash: Pair,
    pub first_hashes: Three,
    pub last_hashes: Three,
    pub last_ids: Three,
    pub bodies_verified: u64,
    pub bodies_not_shown: u64,
    pub order: Order,
    /// What the log says otherwise.
    pub logged: Logged,
}

impl Piece {
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Unopened(Unopened::Stopped))
    }

    pub fn checked(&self) -> Option<&Checked> {
        match &self.state {
            State::Checked(checked) => Some(checked),
            _ => None,
        }
    }
}

impl<'a> Context<'a> {
    /// A container alone: nothing is known of its neighbours.
    pub fn new(run: &'a Run, index: usize, control: &'a dyn Control, most: usize) -> Context<'a> {
        let earlier = Earlier {
            when_max: None,
            exact: false,
        };
        Context {
            run,
            index,
            control,
            most,
            earlier,
            seams: None,
            first: None,
        }
    }
}

/// What must be hashed of a container as a whole.
pub(super) struct Whole {
    /// G of the genesis record.
    pub genesis: Digest,
    /// The root over the recorded ids.
    pub root: Digest,
    /// The hash of the header.
    pub hash: Digest,
}

impl View<'_> {
    /// What the container's events, checked, and its other layers make of it.
    pub(super) fn checked(
        &self,
        context: &Context<'_>,
        mut part: Part,
        whole: &Whole,
        logged: Logged,
    ) -> Checked {
        let order = self.order(context.earlier, &mut part);
        let (bad_ids, sound, hash) = if self.container.is_tail() {
            self.tail(&mut part);
            (Vec::new(), true, Pair::same(*self.container.hash()))
        } else {
            self.block(whole, &order, &mut part)
        };
        Checked {
            logged,
            ..self.summary(context, part, order, bad_ids, sound, hash)
        }
    }

    fn summary(
        &self,
        context: &Context<'_>,
        part: Part,
        mut order: Order,
        bad_ids: Vec<(usize, Digest)>,
        sound: bool,
        hash: Pair,
    ) -> Checked {
        let container = self.container;
        let count = container.count();
        let pair = |recorded: Digest, bad: Option<Digest>| Pair {
            recorded,
            recomputed: bad.unwrap_or(recorded),
        };
        let hash_at = |i: usize| pair(self.hash(i as isize), lookup(&part.bad_hashes, i));
        let id_at = |i: usize| pair(self.id(i as isize), lookup(&bad_ids, i));
        let header = container.header().clone();
        // What the header says of `when` is sealed; what frames say that were changed is not.
        if !container.is_tail()
            && !part
                .found
                .iter()
                .any(|found| found.class == FaultClass::WhenRange)
        {
            order.when_max = Some(header.when_max);
            order.exact = true;
        }
        let mut faults = Faults::new(context.most);
        part.found.iter().for_each(|found| faults.push(*found));
        Checked {
            tail: container.is_tail(),
            seams: *container.seams(),
            genesis: self.genesis,
            foreign: header.genesis == self.genesis && container.flow() != context.run.flow,
            faults,
            sound,
            hash,
            first_hashes: Three::of(0..count.min(3), hash_at),
            last_hashes: Three::of(count.saturating_sub(3)..count, hash_at),
            last_ids: Three::of(count.saturating_sub(3)..count, id_at),
            bodies_verified: part.bodies_verified,
            bodies_not_shown: part.bodies_not_shown,
            order,
            header,
            logged: Logged::default(),
        }
    }
}

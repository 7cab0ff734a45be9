//! One container, checked alone.
use super::events::Part;
use super::fault::{FaultClass, Faults};
use super::order::{Earlier, Order};
use super::view::{View, lookup};
use super::{Control, Run, Source};
use crate::block::{Container, Header, Seams};
use crate::genesis::Genesis;
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

pub(super) struct Piece {
    pub bytes: u64,
    pub state: State,
}

pub(super) enum State {
    Stopped,
    Unreadable,
    Malformed(Malformed),
    Checked(Box<Checked>),
}

/// What a container is checked against.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub run: &'a Run,
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
    pub first_hashes: Vec<Pair>,
    pub last_hashes: Vec<Pair>,
    pub last_ids: Vec<Pair>,
    pub bodies_verified: u64,
    pub bodies_not_shown: u64,
    pub order: Order,
}

impl Piece {
    pub fn of<S: Source + ?Sized>(
        source: &S,
        run: &Run,
        index: usize,
        control: &dyn Control,
        most: usize,
        buffer: &mut Vec<u8>,
    ) -> Piece {
        let earlier = Earlier {
            when_max: None,
            exact: false,
        };
        Piece::check(
            source,
            index,
            &Context {
                run,
                control,
                most,
                earlier,
                seams: None,
                first: None,
            },
            buffer,
        )
    }

    pub fn check<S: Source + ?Sized>(
        source: &S,
        index: usize,
        context: &Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Piece {
        if context.control.stopped() {
            return Piece {
                bytes: 0,
                state: State::Stopped,
            };
        }
        let Ok(bytes) = source.read(index, buffer) else {
            return Piece {
                bytes: 0,
                state: State::Unreadable,
            };
        };
        let length = bytes.len() as u64;
        let state = match Container::decode(bytes) {
            Err(malformed) => State::Malformed(malformed),
            Ok(container) => match Checked::of(&container, context) {
                None => State::Stopped,
                Some(checked) => {
                    context.control.advanced(container.count() as u64, length);
                    State::Checked(Box::new(checked))
                }
            },
        };
        Piece { bytes: length, state }
    }

    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    pub fn checked(&self) -> Option<&Checked> {
        match &self.state {
            State::Checked(checked) => Some(checked),
            _ => None,
        }
    }
}

impl Checked {
    /// Checks a container; nothing if it was stopped.
    fn of(container: &Container<'_>, context: &Context<'_>) -> Option<Checked> {
        let mut part = Part::default();
        let genesis = container.genesis().ok()?;
        let view = View::of(container, &genesis, context, &mut part);
        view.own_seams(&mut part);
        let view = view.with_fillers();
        part.add(view.all(context));
        if part.stopped {
            return None;
        }
        let order = view.order(context.earlier, &mut part);
        let (bad_ids, sound, hash) = if container.is_tail() {
            view.tail(&mut part);
            (Vec::new(), true, Pair::same(*container.hash()))
        } else {
            view.block(&genesis.digest(), &order, &mut part)
        };
        Some(view.summary(context, &genesis, part, order, bad_ids, sound, hash))
    }
}

impl View<'_> {
    #[allow(clippy::too_many_arguments)]
    fn summary(
        &self,
        context: &Context<'_>,
        genesis: &Genesis,
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
            foreign: header.genesis == self.genesis && genesis.flow != context.run.flow,
            faults,
            sound,
            hash,
            first_hashes: (0..count.min(3)).map(hash_at).collect(),
            last_hashes: (count.saturating_sub(3)..count).map(hash_at).collect(),
            last_ids: (count.saturating_sub(3)..count).map(id_at).collect(),
            bodies_verified: part.bodies_verified,
            bodies_not_shown: part.bodies_not_shown,
            order,
            header,
        }
    }
}

//! One container, checked alone.
use std::ops::Range;

use rayon::prelude::*;

use super::fault::{Datum, FaultClass, Faults, Found};
use super::{Control, Run, Source};
use crate::block::{Body, Container, Header, Seams};
use crate::event::{COMMITMENT_AT, Event, FLAGS_AT, LATE, decode_salted_body};
use crate::genesis::Genesis;
use crate::link;
use crate::merkle;
use crate::suite::{Digest, Role, hash, hash_each};
use crate::wire::Malformed;

/// So many events are checked at a time: enough to keep lanes full, few enough to share a great block among cores.
const CHUNK: usize = 256;

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

/// What is known of the flow before a container, for its late flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    /// The greatest `when` known.
    pub when_max: Option<i64>,
    /// Whether there is none greater.
    pub exact: bool,
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

/// What the order of events says towards its neighbours.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub when_min: Option<i64>,
    pub when_max: Option<i64>,
    /// Whether `when_max` leaves out no event.
    pub exact: bool,
    /// Offset and `recorded_at` of the first sound event; `recorded_at` of the last.
    pub recorded_first: Option<(u64, i64)>,
    pub recorded_last: Option<i64>,
    recorded_max: Option<i64>,
    /// Of the events that are greatest so far in the container: the greatest `when` with the late flag, and the least
    /// without. What came before must be in between.
    late_max: Option<i64>,
    prompt_min: Option<i64>,
}

impl Order {
    /// Whether the late flags hold with these events before.
    pub fn fits(&self, earlier: Earlier) -> bool {
        let prompt = self.prompt_min.is_none_or(|when| Some(when) >= earlier.when_max);
        let late = !earlier.exact || self.late_max.is_none_or(|when| Some(when) < earlier.when_max);
        prompt && late
    }
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

/// What checking some of a container's events found.
#[derive(Default)]
struct Part {
    found: Vec<Found>,
    /// Events whose frame is not what its hash says, with what it says.
    bad_hashes: Vec<(usize, Digest)>,
    bad_ids: Vec<(usize, Digest)>,
    /// Events whose fields cannot be relied upon.
    unsound: Vec<usize>,
    bodies_verified: u64,
    bodies_not_shown: u64,
    stopped: bool,
}

impl Part {
    fn fault(
        &mut self,
        i: usize,
        class: FaultClass,
        recorded: impl Into<Datum>,
        recomputed: impl Into<Datum>,
    ) {
        let (recorded, recomputed) = (recorded.into(), recomputed.into());
        self.found.push(Found {
            at: i as u64,
            class,
            block: None,
            recorded,
            recomputed,
        });
    }

    fn add(&mut self, other: Part) {
        self.found.extend(other.found);
        self.bad_hashes.extend(other.bad_hashes);
        self.bad_ids.extend(other.bad_ids);
        self.unsound.extend(other.unsound);
        self.bodies_verified += other.bodies_verified;
        self.bodies_not_shown += other.bodies_not_shown;
        self.stopped |= other.stopped;
    }
}

/// A container with the seams and the genesis it is checked with.
struct View<'a> {
    container: &'a Container<'a>,
    seams: Seams,
    genesis: Digest,
    /// The seams before fillers were put where they must stand.
    without_fillers: Seams,
    /// The position of the first event.
    first: u64,
}

fn lookup(list: &[(usize, Digest)], i: usize) -> Option<Digest> {
    let at = list.binary_search_by_key(&i, |(index, _)| *index).ok()?;
    list.get(at).map(|(_, digest)| *digest)
}

impl View<'_> {
    /// E of the event `i` places behind the container's first, from −2 on.
    fn hash(&self, i: isize) -> Digest {
        let hashes = self.container.hashes();
        let found = match usize::try_from(i) {
            Ok(i) => hashes
                .get(i)
                .or_else(|| self.seams.next_hashes.get(i - hashes.len().min(i))),
            Err(_) => usize::try_from(i + 2).ok().and_then(|i| self.seams.hashes.get(i)),
        };
        found.copied().unwrap_or(self.genesis)
    }

    /// I of the event `i` places behind the container's first, from −3 on.
    fn id(&self, i: isize) -> Digest {
        let found = match usize::try_from(i) {
            Ok(i) => self.container.ids().get(i),
            Err(_) => usize::try_from(i + 3).ok().and_then(|i| self.seams.ids.get(i)),
        };
        found.copied().unwrap_or(self.genesis)
    }

    /// The id of the i-th event, from the recorded values unless others are given for them.
    fn link(&self, i: usize, ids: &[(usize, Digest)], hashes: &[(usize, Digest)]) -> Digest {
        let i = i as isize;
        let other = |list, i: isize| usize::try_from(i).ok().and_then(|i| lookup(list, i));
        let id = |i| other(ids, i).unwrap_or_else(|| self.id(i));
        let hash = |i| other(hashes, i).unwrap_or_else(|| self.hash(i));
        let before = [id(i - 3), id(i - 2), id(i - 1)];
        let own = [hash(i), hash(i + 1), hash(i + 2), hash(i + 3)];
        link::link(self.container.header().suite, &self.genesis, &before, &own)
    }

    /// The provisional ids, from the recorded event hashes unless others are given for them.
    fn provisionals(&self, hashes: &[(usize, Digest)]) -> Vec<Digest> {
        let suite = self.container.header().suite;
        let hash = |i: isize| {
            let other = usize::try_from(i).ok().and_then(|i| lookup(hashes, i));
            other.unwrap_or_else(|| self.hash(i))
        };
        let [a, b, c] = self.seams.ids;
        let mut ids = vec![a, b, c];
        let mut window = [a, b, c];
        for i in 0..self.container.count().saturating_sub(3) as isize {
            let id = link::link(
                suite,
                &self.genesis,
                &window,
                &[hash(i), hash(i + 1), hash(i + 2), hash(i + 3)],
            );
            let [_, second, first] = window;
            window = [second, first, id];
            ids.push(id);
        }
        let one = |(i, id): (usize, &Digest)| {
            let n = self.first.saturating_add(i as u64);
            let i = i as isize;
            link::provisional(suite, &self.genesis, id, &[hash(i - 2), hash(i - 1), hash(i)], n)
        };
        ids.iter()
            .take(self.container.count())
            .enumerate()
            .map(one)
            .collect()
    }
}

impl View<'_> {
    fn part(&self, range: Range<usize>, context: &Context<'_>) -> Part {
        let mut part = Part::default();
        if context.control.stopped() {
            part.stopped = true;
            return part;
        }
        let mut digests = Vec::with_capacity(range.len());
        let bad_bodies = self.bodies(range.clone(), context, &mut part, &mut digests);
        self.frames(range.clone(), &bad_bodies, &mut part, &mut digests);
        if !self.container.is_tail() {
            self.ids(range, &mut part, &mut digests);
        }
        part
    }

    /// Bodies against the commitments in the frames. Returns those that differ.
    fn bodies(
        &self,
        range: Range<usize>,
        context: &Context<'_>,
        part: &mut Part,
        digests: &mut Vec<Digest>,
    ) -> Vec<(usize, Digest)> {
        let mut shown = Vec::with_capacity(range.len());
        for i in range {
            match self.container.body(i) {
                Body::Shown(body) => shown.push((i, body)),
                Body::Erased | Body::Absent => {
                    part.bodies_not_shown += 1;
                    if context.run.expect.bodies {
                        part.fault(i, FaultClass::BodyMissing, Datum::None, Datum::None);
                    }
                }
            }
        }
        let inputs: Vec<&[u8]> = shown.iter().map(|(_, body)| *body).collect();
        digests.clear();
        hash_each(self.container.header().suite, Role::Body, &inputs, digests);
        let mut bad = Vec::new();
        for ((i, body), digest) in shown.into_iter().zip(digests.iter()) {
            let recorded = commitment_of(self.container.frame(i));
            if recorded != *digest {
                part.fault(i, FaultClass::Commitment, recorded, *digest);
                bad.push((i, *digest));
            } else if let Err(malformed) = decode_salted_body(body) {
                part.fault(i, FaultClass::Format, malformed.at, Datum::None);
            } else {
                part.bodies_verified += 1;
            }
        }
        bad
    }

    /// Frames against the event hashes, and the rules for kinds.
    fn frames(
        &self,
        range: Range<usize>,
        bad_bodies: &[(usize, Digest)],
        part: &mut Part,
        digests: &mut Vec<Digest>,
    ) {
        let inputs: Vec<&[u8]> = range.clone().map(|i| self.container.frame(i)).collect();
        digests.clear();
        hash_each(self.container.header().suite, Role::Event, &inputs, digests);
        for ((i, frame), digest) in range.zip(inputs).zip(digests.iter()) {
            let recorded = self.hash(i as isize);
            if recorded != *digest && !self.only_commitment_differs(frame, lookup(bad_bodies, i), &recorded) {
                part.fault(i, FaultClass::EventHash, recorded, *digest);
                part.bad_hashes.push((i, *digest));
                part.unsound.push(i);
                continue;
            }
            match Event::decode(frame) {
                Ok(event) if event.closes() != self.must_close(i) => {
                    part.fault(i, FaultClass::Close, event.closes(), self.must_close(i));
                }
                Ok(_) => {}
                Err(malformed) => {
                    let at = self.container.frame_offset(i) as u64 + malformed.at;
                    part.fault(i, FaultClass::Format, at, Datum::None);
                    part.unsound.push(i);
                }
            }
        }
    }

    /// With the commitment that the body has, the frame would be what its hash says: only the commitment was changed,
    /// which is named already.
    fn only_commitment_differs(&self, frame: &[u8], body: Option<Digest>, recorded: &Digest) -> bool {
        let Some(commitment) = body else { return false };
        let (Some(before), Some(after)) = (frame.get(..COMMITMENT_AT), frame.get(COMMITMENT_AT + 32..))
        else {
            return false;
        };
        hash(
            self.container.header().suite,
            Role::Event,
            &[before, &commitment, after],
        ) == *recorded
    }

    fn must_close(&self, i: usize) -> bool {
        self.container.header().closes && i + 1 == self.container.count()
    }

    fn ids(&self, range: Range<usize>, part: &mut Part, digests: &mut Vec<Digest>) {
        let mut linked: Vec<u8> = Vec::with_capacity(range.len() * 256);
        for i in range.clone() {
            let i = i as isize;
            linked.extend_from_slice(&self.genesis);
            for id in [self.id(i - 1), self.id(i - 2), self.id(i - 3)] {
                linked.extend_from_slice(&id);
            }
            for hash in [self.hash(i), self.hash(i + 1), self.hash(i + 2), self.hash(i + 3)] {
                linked.extend_from_slice(&hash);
            }
        }
        let inputs: Vec<&[u8]> = linked.chunks_exact(256).collect();
        digests.clear();
        hash_each(self.container.header().suite, Role::Link, &inputs, digests);
        for (i, digest) in range.zip(digests.iter()) {
            if self.id(i as isize) != *digest {
                part.bad_ids.push((i, *digest));
            }
        }
    }
}

fn commitment_of(frame: &[u8]) -> Digest {
    frame
        .get(COMMITMENT_AT..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or_default()
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

impl<'a> View<'a> {
    fn of(
        container: &'a Container<'a>,
        genesis: &Genesis,
        context: &Context<'_>,
        part: &mut Part,
    ) -> View<'a> {
        let seams = context.seams.unwrap_or(*container.seams());
        let recorded = container.header().genesis;
        let recomputed = genesis.digest();
        let first = context.first.unwrap_or(container.header().first);
        let view = View {
            container,
            seams,
            genesis: recorded,
            without_fillers: seams,
            first,
        };
        if recorded == recomputed {
            if genesis.flow != context.run.flow {
                part.fault(0, FaultClass::Genesis, recorded, Datum::None);
            }
            return view;
        }
        part.fault(0, FaultClass::Genesis, recorded, recomputed);
        // One of the two is what the events were linked with.
        let other = View {
            container,
            seams,
            genesis: recomputed,
            without_fillers: seams,
            first,
        };
        if !view.first_holds() && other.first_holds() {
            other
        } else {
            view
        }
    }

    fn first_holds(&self) -> bool {
        let made = if self.container.is_tail() {
            self.provisionals(&[]).first().copied()
        } else {
            Some(self.link(0, &[], &[]))
        };
        made == self.container.ids().first().copied()
    }

    /// G stands in the seams where there can be no event, and nowhere else.
    fn own_seams(&self, part: &mut Part) {
        let header = self.container.header();
        let filler = |digest: &Digest| *digest == self.genesis;
        let (first, closes) = (self.first, header.closes);
        let ids = self.seams.ids.iter().zip([3, 2, 1]);
        let hashes = self.seams.hashes.iter().zip([2, 1]);
        for (digest, back) in ids.chain(hashes) {
            if filler(digest) != (first <= back) {
                part.fault(0, FaultClass::Seam, *digest, self.genesis);
            }
        }
        for digest in self
            .seams
            .next_hashes
            .iter()
            .filter(|_| !self.container.is_tail())
        {
            if filler(digest) != closes {
                part.fault(0, FaultClass::Seam, *digest, self.genesis);
            }
        }
    }

    /// With G where it must stand, so that a wrong filler is named once.
    fn with_fillers(mut self) -> View<'a> {
        let header = self.container.header();
        for (digest, back) in self.seams.ids.iter_mut().zip([3, 2, 1]) {
            if self.first <= back {
                *digest = self.genesis;
            }
        }
        for (digest, back) in self.seams.hashes.iter_mut().zip([2, 1]) {
            if self.first <= back {
                *digest = self.genesis;
            }
        }
        if header.closes {
            self.seams.next_hashes = [self.genesis; 3];
        }
        self
    }

    fn all(&self, context: &Context<'_>) -> Part {
        let count = self.container.count();
        if count <= CHUNK {
            return self.part(0..count, context);
        }
        let range = |chunk: usize| chunk * CHUNK..count.min((chunk + 1) * CHUNK);
        let parts: Vec<Part> = (0..count.div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| self.part(range(chunk), context))
            .collect();
        let mut all = Part::default();
        parts.into_iter().for_each(|part| all.add(part));
        all
    }

    /// Late flags, and times that must not fall. Events whose fields cannot be relied upon are left out.
    fn order(&self, earlier: Earlier, part: &mut Part) -> Order {
        let Earlier {
            mut when_max,
            mut exact,
        } = earlier;
        let mut order = Order {
            exact: true,
            ..Order::default()
        };
        let unsound = std::mem::take(&mut part.unsound);
        for i in 0..self.container.count() {
            if unsound.binary_search(&i).is_ok() {
                (exact, order.exact) = (false, false);
                continue;
            }
            let (when, recorded_at, late) = times_of(self.container.frame(i));
            let must = when_max > Some(when);
            if late != must && (must || exact) {
                part.fault(i, FaultClass::Late, late, must);
            }
            if order.recorded_last > Some(recorded_at) {
                part.fault(
                    i,
                    FaultClass::RecordedAt,
                    recorded_at,
                    order.recorded_last.unwrap_or_default(),
                );
            }
            order.take(i as u64, when, recorded_at, late);
            when_max = when_max.max(Some(when));
        }
        order
    }
}

impl Order {
    fn take(&mut self, i: u64, when: i64, recorded_at: i64, late: bool) {
        if Some(when) >= self.when_max {
            if late {
                self.late_max = self.late_max.max(Some(when));
            } else {
                self.prompt_min = Some(self.prompt_min.map_or(when, |least| least.min(when)));
            }
        }
        self.when_min = Some(self.when_min.map_or(when, |least| least.min(when)));
        self.when_max = self.when_max.max(Some(when));
        self.recorded_first = self.recorded_first.or(Some((i, recorded_at)));
        self.recorded_last = Some(recorded_at);
        self.recorded_max = self.recorded_max.max(Some(recorded_at));
    }
}

/// `when`, `recorded_at` and the late flag, where they stand in every frame.
fn times_of(frame: &[u8]) -> (i64, i64, bool) {
    let time = |at: usize| {
        let bytes = frame.get(at..).and_then(<[u8]>::first_chunk).copied();
        i64::from_be_bytes(bytes.unwrap_or_default())
    };
    (
        time(16),
        time(24),
        frame.get(FLAGS_AT).is_some_and(|flags| flags & LATE != 0),
    )
}

impl View<'_> {
    /// Provisional ids. One that holds with the event hashes that the frames have was not changed itself.
    fn tail(&self, part: &mut Part) {
        let recorded = self.provisionals(&[]);
        let differs = |made: &[Digest]| made.iter().zip(self.container.ids()).any(|(made, id)| made != id);
        if !differs(&recorded) {
            return;
        }
        let bad_hashes = std::mem::take(&mut part.bad_hashes);
        let fixed = self.provisionals(&bad_hashes);
        for (i, id) in self.container.ids().iter().enumerate() {
            let made = recorded.get(i).copied().unwrap_or_default();
            if made != *id && fixed.get(i) != Some(id) {
                part.fault(i, FaultClass::Provisional, *id, made);
            }
        }
        part.bad_hashes = bad_hashes;
    }

    /// Ids, root, header and block hash. Returns the ids at fault with what they should be, and the block hash.
    fn block(&self, genesis: &Digest, order: &Order, part: &mut Part) -> (Vec<(usize, Digest)>, bool, Pair) {
        let header = self.container.header();
        let bad_ids = self.bad_ids(part);
        let mut fixed = header.clone();
        if let Some(root) = self.bad_root(&bad_ids) {
            part.fault(0, FaultClass::Root, header.root, root);
            fixed.root = root;
        }
        self.whens(order, &mut fixed, part);
        if let Some(latest) = order.recorded_max.filter(|latest| *latest > header.sealed_at) {
            part.fault(0, FaultClass::SealedAt, header.sealed_at, latest);
        }
        if header.closes && u64::from(header.count) < header.last().min(3) {
            part.fault(
                0,
                FaultClass::Close,
                u64::from(header.count),
                header.last().min(3),
            );
        }
        fixed.genesis = *genesis;
        let recorded = *self.container.hash();
        let recomputed = header.digest();
        let sound = recomputed == recorded || fixed.digest() == recorded;
        if sound {
            return (bad_ids, true, Pair::same(recorded));
        }
        part.fault(0, FaultClass::BlockHash, recorded, recomputed);
        (bad_ids, false, Pair { recorded, recomputed })
    }

    /// An id is at fault if it fails with the recorded values below it, and with what those at fault should be.
    fn bad_ids(&self, part: &mut Part) -> Vec<(usize, Digest)> {
        let suspects = std::mem::take(&mut part.bad_ids);
        let as_seamed = View {
            seams: self.without_fillers,
            ..*self
        };
        let mut bad: Vec<(usize, Digest)> = Vec::new();
        for (i, made) in suspects {
            let id = self.id(i as isize);
            let with_ids = self.link(i, &bad, &[]);
            let holds = with_ids == id
                || self.link(i, &[], &part.bad_hashes) == id
                || self.link(i, &bad, &part.bad_hashes) == id
                || as_seamed.link(i, &[], &[]) == id;
            if !holds {
                part.fault(i, FaultClass::Id, id, made);
                bad.push((i, with_ids));
            }
        }
        bad
    }

    /// The root as it should be, if the recorded one fits neither the recorded ids nor the right ones.
    fn bad_root(&self, bad_ids: &[(usize, Digest)]) -> Option<Digest> {
        let Header { suite, root, .. } = *self.container.header();
        let made = merkle::root(suite, self.container.ids())?;
        if made == root {
            return None;
        }
        let right: Vec<Digest> = self
            .container
            .ids()
            .iter()
            .enumerate()
            .map(|(i, id)| lookup(bad_ids, i).unwrap_or(*id))
            .collect();
        (bad_ids.is_empty() || merkle::root(suite, &right) != Some(root)).then_some(made)
    }

    /// The least and the greatest `when`; where an event cannot be relied upon, they may be its.
    fn whens(&self, order: &Order, fixed: &mut Header, part: &mut Part) {
        let header = self.container.header();
        let (Some(min), Some(max)) = (order.when_min, order.when_max) else {
            return;
        };
        if header.when_min > min || (order.exact && header.when_min != min) {
            part.fault(0, FaultClass::WhenRange, header.when_min, min);
            fixed.when_min = min;
        }
        if header.when_max < max || (order.exact && header.when_max != max) {
            part.fault(0, FaultClass::WhenRange, header.when_max, max);
            fixed.when_max = max;
        }
    }

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

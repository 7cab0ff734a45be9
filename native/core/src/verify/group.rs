//! Containers checked together: small ones fill the lanes between them, a great one by itself.
use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::events::{LONG, Part, Slice, check_slices};
use super::logged::held;
use super::piece::{Context, Piece, State, Unopened, Whole};
use super::run::{Linked, Linking};
use super::view::View;
use super::{Control, ReadFault, Source};
use crate::block::{Body, Container};
use crate::log::Ledger;
use crate::merkle;
use crate::suite::{Digest, Role, Suite, hash_each};

/// Small containers are checked together up to so many bytes, which the cache holds beside what is made of them, ...
const GROUP_BYTES: usize = 256 * 1024;
/// ... and up to so many of them.
const GROUP_COUNT: usize = 256;
/// So many events are checked at a time: enough to keep lanes full, few enough to share a great block among cores.
const CHUNK: usize = 512;
/// A tree over more ids than this is cut where RFC 6962 splits it, to share it among cores: a power of two.
const SUBTREE: usize = 4096;

/// Cuts the work, in its order, into what is checked together.
pub(super) fn cut<'w, S: Source + ?Sized>(source: &S, work: &'w [Context<'w>]) -> Vec<&'w [Context<'w>]> {
    let (mut bytes, mut count) = (0, 0);
    work.chunk_by(|_, next| {
        let size = source.size(next.index);
        (bytes, count) = (bytes + size, count + 1);
        let together = bytes <= GROUP_BYTES && count < GROUP_COUNT;
        if !together {
            (bytes, count) = (size, 0);
        }
        together
    })
    .collect()
}

/// What came of a group, in its order.
pub(super) enum Outcome {
    /// A run that lies in the group as a whole.
    Linked(Linked),
    /// A piece of a run that does not.
    Piece(Piece),
}

/// Checks a group, and links those of its runs that are whole, so that what is known of a piece is not kept for long.
pub(super) fn outcomes<S: Source + ?Sized>(
    source: &S,
    group: &[Context<'_>],
    held: &Held,
    buffers: &mut Vec<Vec<u8>>,
) -> Vec<Outcome> {
    let mut pieces = check(source, group, buffers).into_iter();
    let mut outcomes = Vec::with_capacity(group.len());
    for own in group.chunk_by(|a, b| std::ptr::eq(a.run, b.run)) {
        let pieces = pieces.by_ref().take(own.len());
        match own {
            [context, ..] if own.len() == context.run.pieces.len() => {
                let pieces: Vec<Piece> = pieces.collect();
                let linking = Linking::new(source, context.run, &pieces, context.control, context.most);
                outcomes.push(Outcome::Linked(linking.link()));
            }
            _ => outcomes.extend(pieces.map(Outcome::Piece)),
        }
    }
    outcomes.iter_mut().for_each(|outcome| held.hold(outcome));
    outcomes
}

/// How many faults may still wait until all that stands before them is known. More are forgotten, and looked for again
/// if the verdict has room for them: memory is bounded though nothing holds any more.
pub(super) struct Held(AtomicUsize);

impl Held {
    pub fn up_to(most: usize) -> Held {
        Held(AtomicUsize::new(most))
    }

    fn hold(&self, outcome: &mut Outcome) {
        match outcome {
            Outcome::Linked(linked) if self.is_full(linked.faults.len()) => {
                linked.faults = Vec::new();
                linked.forgotten = true;
            }
            Outcome::Piece(Piece {
                state: State::Checked(checked),
                ..
            }) if self.is_full(checked.faults.kept()) => checked.faults.forget(),
            _ => {}
        }
    }

    fn is_full(&self, faults: usize) -> bool {
        let take = |room: usize| room.checked_sub(faults);
        faults > 0
            && self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_err()
    }
}

/// Checks containers, each alone. `buffers` are for reading, and may be given again.
pub(super) fn check<S: Source + ?Sized>(
    source: &S,
    group: &[Context<'_>],
    buffers: &mut Vec<Vec<u8>>,
) -> Vec<Piece> {
    let opened = open(source, group, buffers);
    let whole: Vec<(&Context<'_>, &Container<'_>)> = group
        .iter()
        .zip(&opened)
        .filter_map(|(context, (_, opened))| Some((context, opened.as_ref().ok()?)))
        .collect();
    let mut states = whole
        .chunk_by(|a, b| suite_of(a) == suite_of(b))
        .flat_map(|alike| {
            check_alike(
                source.ledger(),
                alike.first().map_or(Suite::Sha256, suite_of),
                alike,
            )
        })
        .collect::<Vec<State>>()
        .into_iter();
    let pieces = group.iter().zip(&opened).map(|(context, (bytes, opened))| {
        let state = match opened {
            Ok(_) => states.next().unwrap_or(State::Unopened(Unopened::Stopped)),
            Err(unopened) => State::Unopened(*unopened),
        };
        if let State::Checked(checked) = &state {
            context.control.advanced(u64::from(checked.header.count), *bytes);
        }
        Piece { bytes: *bytes, state }
    });
    pieces.collect()
}

fn suite_of((_, container): &(&Context<'_>, &Container<'_>)) -> Suite {
    container.header().suite
}

type Opened<'a> = (u64, Result<Container<'a>, Unopened>);

fn open<'a, S: Source + ?Sized>(
    source: &'a S,
    group: &[Context<'_>],
    buffers: &'a mut Vec<Vec<u8>>,
) -> Vec<Opened<'a>> {
    if group.iter().any(|context| context.control.stopped()) {
        return group.iter().map(|_| (0, Err(Unopened::Stopped))).collect();
    }
    let indexes: Vec<usize> = group.iter().map(|context| context.index).collect();
    let one = |read: Result<&'a [u8], ReadFault>| match read {
        Ok(bytes) => (
            bytes.len() as u64,
            Container::decode(bytes).map_err(Unopened::Malformed),
        ),
        Err(_) => (0, Err(Unopened::Unreadable)),
    };
    source.read_each(&indexes, buffers).into_iter().map(one).collect()
}

/// Buffers that threads have read into and may read into again: what they hold is in memory already.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Vec<Vec<u8>>>>);

impl Spare {
    /// With some that no other thread has.
    pub fn with<T>(&self, work: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffers = lock().pop().unwrap_or_default();
        let made = work(&mut buffers);
        lock().push(buffers);
        made
    }
}

/// Checks containers of one suite.
fn check_alike(
    ledger: Option<&Ledger>,
    suite: Suite,
    group: &[(&Context<'_>, &Container<'_>)],
) -> Vec<State> {
    let records = group.iter().map(|(_, container)| container.genesis_record());
    let genesis = digests(suite, Role::Flow, records);
    let mut parts: Vec<Part> = Vec::with_capacity(group.len());
    let views: Vec<View<'_>> = group
        .iter()
        .zip(&genesis)
        .map(|((context, container), genesis)| {
            let mut part = Part::default();
            let view = View::of(container, *genesis, context, &mut part);
            view.own_seams(&mut part);
            parts.push(part);
            view.with_fillers()
        })
        .collect();
    for slice in checked_slices(suite, group, &views) {
        if let Some(part) = parts.get_mut(slice.of) {
            part.add(slice.part);
        }
    }
    let wholes = wholes(suite, group, &views, genesis);
    let mut logged = ledger
        .map(|ledger| held(ledger, suite, &views, &wholes))
        .unwrap_or_default()
        .into_iter();
    let checked = group.iter().zip(&views).zip(parts).zip(wholes);
    checked
        .map(|((((context, _), view), part), whole)| {
            let logged = logged.next().unwrap_or_default();
            match context.control.stopped() {
                true => State::Unopened(Unopened::Stopped),
                false => State::Checked(Box::new(view.checked(context, part, &whole, logged))),
            }
        })
        .collect()
}

fn digests<'a>(suite: Suite, role: Role, inputs: impl Iterator<Item = &'a [u8]>) -> Vec<Digest> {
    let mut digests = Vec::new();
    hash_each(suite, role, &inputs.collect::<Vec<_>>(), &mut digests);
    digests
}

/// All events of the containers, checked on all cores if there are many.
fn checked_slices<'a>(
    suite: Suite,
    group: &[(&'a Context<'a>, &Container<'_>)],
    views: &'a [View<'a>],
) -> Vec<Slice<'a>> {
    let mut chunks: Vec<Vec<Slice<'a>>> = vec![Vec::new()];
    let mut room = CHUNK;
    for (of, (view, (context, container))) in views.iter().zip(group).enumerate() {
        let mut from = 0;
        while from < container.count() {
            if room == 0 {
                chunks.push(Vec::new());
                room = CHUNK;
            }
            let most = room.min(container.count() - from);
            let count = at_a_time(container, from, most);
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(Slice::new(of, view, context, from..from + count));
            }
            (room, from) = (if count < most { 0 } else { room - count }, from + count);
        }
    }
    if let [chunk] = chunks.as_mut_slice() {
        check_slices(suite, chunk);
    } else {
        chunks.par_iter_mut().for_each(|chunk| check_slices(suite, chunk));
    }
    chunks.into_iter().flatten().collect()
}

/// So many of `most` events, but of long bodies no more than are hashed in a moment.
fn at_a_time(container: &Container<'_>, from: usize, most: usize) -> usize {
    if container.body_length() <= LONG {
        return most;
    }
    let mut bytes = 0;
    let fits = |i: &usize| {
        if let Body::Shown(body) = container.body(*i) {
            bytes += body.len();
        }
        bytes <= LONG
    };
    (from..from + most).take_while(fits).count().max(1)
}

/// What has the same root as the ids: these themselves, or where they are many, their subtrees' roots.
fn leaves<'a>(suite: Suite, ids: &'a [Digest], control: &dyn Control) -> Cow<'a, [Digest]> {
    if ids.len() <= SUBTREE {
        return Cow::Borrowed(ids);
    }
    let root = |ids: &[Digest]| (!control.stopped()).then(|| merkle::root(suite, ids))?;
    Cow::Owned(ids.par_chunks(SUBTREE).filter_map(root).collect())
}

/// What of each container is hashed as a whole. Of a tail, that is its genesis record alone.
fn wholes(
    suite: Suite,
    group: &[(&Context<'_>, &Container<'_>)],
    views: &[View<'_>],
    genesis: Vec<Digest>,
) -> Vec<Whole> {
    let blocks = || group.iter().filter(|(_, container)| !container.is_tail());
    let leaves: Vec<Cow<'_, [Digest]>> = blocks()
        .map(|(context, block)| leaves(suite, block.ids(), context.control))
        .collect();
    let headers: Vec<_> = blocks().map(|(_, block)| block.header().encode()).collect();
    let leaves: Vec<&[Digest]> = leaves.iter().map(AsRef::as_ref).collect();
    let mut roots = merkle::roots(suite, &leaves).into_iter().flatten();
    let mut hashes = digests(suite, Role::Block, headers.iter().map(<[u8; _]>::as_slice)).into_iter();
    let whole = |(view, genesis): (&View<'_>, Digest)| {
        let next = |of: &mut dyn Iterator<Item = Digest>| match view.container.is_tail() {
            true => [0; 32],
            false => of.next().unwrap_or_default(),
        };
        let (root, hash) = (next(&mut roots), next(&mut hashes));
        Whole { genesis, root, hash }
    };
    views.iter().zip(genesis).map(whole).collect()
}

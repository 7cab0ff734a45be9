//! The events of a container, many at a time: bodies, frames, ids.
use std::ops::Range;

use super::fault::{Datum, FaultClass, Found};
use super::piece::Context;
use super::view::{View, lookup};
use crate::block::Body;
use crate::event::{COMMITMENT_AT, Frames, decode_salted_body};
use crate::link::{Linked, linked};
use crate::suite::{Digest, Role, Suite, hash, hash_each, hash_unless};

/// What checking some of a container's events found.
#[derive(Default)]
pub(super) struct Part {
    pub found: Vec<Found>,
    /// Events whose frame is not what its hash says, with what it says.
    pub bad_hashes: Vec<(usize, Digest)>,
    pub bad_ids: Vec<(usize, Digest)>,
    /// Events whose fields cannot be relied upon.
    pub unsound: Vec<usize>,
    pub bodies_verified: u64,
    pub bodies_not_shown: u64,
    pub stopped: bool,
}

impl Part {
    pub(super) fn fault(
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

    pub(super) fn add(&mut self, other: Part) {
        self.found.extend(other.found);
        self.bad_hashes.extend(other.bad_hashes);
        self.bad_ids.extend(other.bad_ids);
        self.unsound.extend(other.unsound);
        self.bodies_verified += other.bodies_verified;
        self.bodies_not_shown += other.bodies_not_shown;
        self.stopped |= other.stopped;
    }
}

/// Some of a container's events.
pub(super) struct Slice<'a> {
    /// Which of the containers that are checked together.
    pub of: usize,
    pub part: Part,
    view: &'a View<'a>,
    context: &'a Context<'a>,
    range: Range<usize>,
    /// Events whose body is not what the frame's commitment says, with what it says.
    bad_bodies: Vec<(usize, Digest)>,
}

impl<'a> Slice<'a> {
    pub(super) fn new(of: usize, view: &'a View<'a>, context: &'a Context<'a>, range: Range<usize>) -> Self {
        Slice {
            of,
            part: Part::default(),
            view,
            context,
            range,
            bad_bodies: Vec::new(),
        }
    }
}

/// A body longer than this is checked alone, and less than all of it if it is no longer wanted.
pub(super) const LONG: usize = 16 << 20;

/// Checks slices of containers of one suite, all of them side by side.
pub(super) fn check_slices(suite: Suite, slices: &mut [Slice<'_>]) {
    let stopped = slices.iter().any(|slice| slice.context.control.stopped());
    if stopped || check_wanted(suite, slices).is_none() {
        slices.iter_mut().for_each(|slice| slice.part.stopped = true);
    }
}

fn check_wanted(suite: Suite, slices: &mut [Slice<'_>]) -> Option<()> {
    let count = slices.iter().map(|slice| slice.range.len()).sum();
    let hash_all = |role: Role, inputs: &[&[u8]]| {
        let mut digests = Vec::with_capacity(count);
        hash_each(suite, role, inputs, &mut digests);
        digests
    };
    let mut frames = Vec::with_capacity(count);
    let mut bodies = Vec::with_capacity(count);
    for slice in slices.iter_mut() {
        slice.gather(&mut frames, &mut bodies);
    }
    // Frames first: bodies are then held against commitments that the cache has.
    let of_frames = hash_all(Role::Event, &frames);
    let of_bodies = match (bodies.as_slice(), slices.first()) {
        ([long], Some(slice)) if long.len() > LONG => {
            vec![hash_unless(suite, Role::Body, long, || {
                slice.context.control.stopped()
            })?]
        }
        _ => hash_all(Role::Body, &bodies),
    };
    let mut bodies = bodies.into_iter().zip(&of_bodies);
    let mut frames = frames.into_iter().zip(&of_frames);
    let mut reading = Frames::default();
    for slice in slices.iter_mut() {
        slice.bodies(&mut bodies);
        for (i, (frame, digest)) in slice.range.clone().zip(frames.by_ref()) {
            slice.frame(i, frame, digest, &mut reading);
        }
    }
    ids(suite, slices);
    Some(())
}

/// So many links are put together at a time: they stay in the nearest cache.
const LINKS: usize = 32;

/// Blocks' ids against the values that they link.
fn ids(suite: Suite, slices: &mut [Slice<'_>]) {
    let mut digests = Vec::new();
    let mut linked = [[[0; 32]; 8]; LINKS];
    let mut filled = 0;
    let mut flush = |linked: &[Linked]| {
        let mut inputs: [&[u8]; LINKS] = [&[]; LINKS];
        inputs
            .iter_mut()
            .zip(linked)
            .for_each(|(input, linked)| *input = linked.as_flattened());
        let inputs = inputs.get(..linked.len()).unwrap_or_default();
        hash_each(suite, Role::Link, inputs, &mut digests);
    };
    for slice in slices.iter().filter(|slice| !slice.view.container.is_tail()) {
        for i in slice.range.clone() {
            if let Some(room) = linked.get_mut(filled) {
                *room = slice.view.linked(i);
            }
            filled += 1;
            if filled == LINKS {
                flush(&linked);
                filled = 0;
            }
        }
    }
    flush(linked.get(..filled).unwrap_or_default());
    let mut made = digests.iter();
    for slice in slices.iter_mut().filter(|slice| !slice.view.container.is_tail()) {
        let recorded = slice
            .view
            .container
            .ids()
            .get(slice.range.clone())
            .unwrap_or_default();
        for ((i, id), digest) in slice.range.clone().zip(recorded).zip(made.by_ref()) {
            if id != digest {
                slice.part.bad_ids.push((i, *digest));
            }
        }
    }
}

impl<'a> Slice<'a> {
    /// Adds the frames and the bodies that are shown, and notes which are not.
    fn gather(&mut self, frames: &mut Vec<&'a [u8]>, bodies: &mut Vec<&'a [u8]>) {
        let container = self.view.container;
        frames.extend(self.range.clone().map(|i| container.frame(i)));
        for i in self.range.clone() {
            match container.body(i) {
                Body::Shown(body) => bodies.push(body),
                Body::Erased | Body::Absent => self.not_shown(i),
            }
        }
    }

    /// Bodies against the commitments in the frames.
    fn bodies<'b>(&mut self, shown: &mut impl Iterator<Item = (&'b [u8], &'b Digest)>) {
        let container = self.view.container;
        for i in self.range.clone() {
            if let Body::Shown(_) = container.body(i)
                && let Some((body, digest)) = shown.next()
            {
                self.body(i, body, digest);
            }
        }
    }

    fn not_shown(&mut self, i: usize) {
        self.part.bodies_not_shown += 1;
        if self.context.run.expect.bodies {
            self.part
                .fault(i, FaultClass::BodyMissing, Datum::None, Datum::None);
        }
    }

    fn body(&mut self, i: usize, body: &[u8], digest: &Digest) {
        let recorded = commitment_of(self.view.container.frame(i));
        if recorded != *digest {
            self.part.fault(i, FaultClass::Commitment, recorded, *digest);
            self.bad_bodies.push((i, *digest));
        } else if let Err(malformed) = decode_salted_body(body) {
            self.part.fault(i, FaultClass::Format, malformed.at, Datum::None);
        } else {
            self.part.bodies_verified += 1;
        }
    }

    /// A frame against its event hash, and the rules for kinds.
    fn frame<'b>(&mut self, i: usize, frame: &'b [u8], digest: &Digest, reading: &mut Frames<'b>) {
        let (view, part) = (self.view, &mut self.part);
        let recorded = view.hash(i as isize);
        if recorded != *digest && !view.only_commitment_differs(frame, lookup(&self.bad_bodies, i), &recorded)
        {
            part.fault(i, FaultClass::EventHash, recorded, *digest);
            part.bad_hashes.push((i, *digest));
            part.unsound.push(i);
            return;
        }
        match reading.closes(frame) {
            Ok(closes) if closes != view.must_close(i) => {
                part.fault(i, FaultClass::Close, closes, view.must_close(i));
            }
            Ok(_) => {}
            Err(malformed) => {
                let at = view.container.frame_offset(i) as u64 + malformed.at;
                part.fault(i, FaultClass::Format, at, Datum::None);
                part.unsound.push(i);
            }
        }
    }
}

impl View<'_> {
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

    /// What the id of the i-th event is the hash of.
    fn linked(&self, i: usize) -> Linked {
        // In a container's midst, where all stands side by side.
        let (ids, hashes) = (self.container.ids(), self.container.hashes());
        let before = i.checked_sub(3).and_then(|from| ids.get(from..)?.first_chunk());
        if let (Some(before), Some(hashes)) = (before, hashes.get(i..).and_then(<[Digest]>::first_chunk)) {
            return linked(&self.genesis, before, hashes);
        }
        let i = i as isize;
        let before = [self.id(i - 3), self.id(i - 2), self.id(i - 1)];
        let hashes = [self.hash(i), self.hash(i + 1), self.hash(i + 2), self.hash(i + 3)];
        linked(&self.genesis, &before, &hashes)
    }
}

fn commitment_of(frame: &[u8]) -> Digest {
    frame
        .get(COMMITMENT_AT..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or_default()
}

//! The events of a container, many at a time: bodies, frames, ids.
use std::ops::Range;

use rayon::prelude::*;

use super::fault::{Datum, FaultClass, Found};
use super::piece::Context;
use super::view::{View, lookup};
use crate::block::Body;
use crate::event::{COMMITMENT_AT, Event, decode_salted_body};
use crate::suite::{Digest, Role, hash, hash_each};

/// So many events are checked at a time: enough to keep lanes full, few enough to share a great block among cores.
const CHUNK: usize = 256;

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

impl View<'_> {
    /// All events of the container, on all cores if there are many.
    pub(super) fn all(&self, context: &Context<'_>) -> Part {
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

//! The hashing of format 1 alone: what verification is measured against.
use std::hint::black_box;

use event_seal_core::suite::{Digest, Role, Suite, hash_each};
use rayon::prelude::*;

use crate::BLOCK;

const FRAME: usize = 128;
const LINK: usize = 256;
const NODE: usize = 64;

/// Hashes each input in a role.
pub type Each = Box<dyn Fn(Role, &[&[u8]], &mut Vec<Digest>) + Sync>;

/// The core's own bulk hashing.
pub fn lanes(suite: Suite) -> Each {
    Box::new(move |role, inputs, out| hash_each(suite, role, inputs, out))
}

/// Bytes of the lengths that so many events with bodies of one length have.
pub struct Inputs {
    salted: usize,
    bodies: Vec<u8>,
    frames: Vec<u8>,
    links: Vec<u8>,
}

impl Inputs {
    /// For `events` events with bodies of `body` bytes.
    pub fn of(body: usize, events: usize) -> Inputs {
        let salted = (24 + body).next_multiple_of(64);
        let bytes = |length: usize| (0..events * length).map(|at| (at % 251) as u8).collect();
        Inputs {
            salted,
            bodies: bytes(salted),
            frames: bytes(FRAME),
            links: bytes(LINK),
        }
    }

    /// How many bytes are hashed for each event, the nodes of the tree apart.
    pub fn bytes_an_event(&self) -> usize {
        self.salted + FRAME + LINK
    }

    /// Hashes all that a verification would hash, on all cores.
    pub fn hash_all(&self, each: &Each) {
        let blocks = self.bodies.par_chunks(BLOCK * self.salted);
        let blocks = blocks.zip(self.frames.par_chunks(BLOCK * FRAME));
        let blocks = blocks.zip(self.links.par_chunks(BLOCK * LINK));
        blocks.for_each(|((bodies, frames), links)| {
            black_box(digests(each, Role::Body, bodies, self.salted));
            black_box(digests(each, Role::Event, frames, FRAME));
            black_box(root(each, digests(each, Role::Link, links, LINK)));
        });
    }
}

fn digests(each: &Each, role: Role, bytes: &[u8], length: usize) -> Vec<Digest> {
    let inputs: Vec<&[u8]> = bytes.chunks_exact(length).collect();
    let mut digests = Vec::with_capacity(inputs.len());
    each(role, &inputs, &mut digests);
    digests
}

/// The Merkle root over a block's ids, level by level.
fn root(each: &Each, mut level: Vec<Digest>) -> Vec<Digest> {
    while level.len() > 1 {
        let (pairs, odd) = level.split_at(level.len() / 2 * 2);
        let mut above = digests(each, Role::Node, pairs.as_flattened(), NODE);
        above.extend_from_slice(odd);
        level = above;
    }
    level
}

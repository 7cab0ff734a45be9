//! What verification is measured against: the hashing of format 1 alone, over inputs that lie ready in memory, on all cores.
//!
//!     limit lanes|one_by_one sha256|blake3 BODY EVENTS
//!
//! `lanes` is the core's own bulk hashing, `one_by_one` the sha2 crate, fed one input after the other. For each line read,
//! everything is hashed once, and a line says how many events a second that were.
use std::hint::black_box;
use std::io::{self, BufRead, Error};
use std::time::Instant;

use event_seal_core::suite::{Digest, Role, Suite, hash, hash_each};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// Events in a block, as the writer seals them by default.
const BLOCK: usize = 4096;
const FRAME: usize = 128;
const LINK: usize = 256;
const NODE: usize = 64;

/// Hashes each input in a role.
type Each = Box<dyn Fn(Role, &[&[u8]], &mut Vec<Digest>) + Sync>;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [how, suite, body, events] = &arguments[..] else {
        return Err(Error::other("limit lanes|one_by_one sha256|blake3 BODY EVENTS"));
    };
    let suite = Suite::from_name(suite).ok_or_else(|| Error::other("no such suite"))?;
    let body: usize = body.parse().map_err(Error::other)?;
    let events = events.parse().map_err(Error::other)?;
    let each = if how == "lanes" {
        lanes(suite)
    } else {
        one_by_one()
    };
    let inputs = Inputs::of((24 + body).next_multiple_of(64), events);
    for line in io::stdin().lock().lines() {
        line?;
        let started = Instant::now();
        inputs.hash(&each);
        println!("{:.0}", events as f64 / started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn lanes(suite: Suite) -> Each {
    Box::new(move |role, inputs, out| hash_each(suite, role, inputs, out))
}

/// sha2 with the tag's midstate kept.
fn one_by_one() -> Each {
    let roles = [
        (Role::Body, "body"),
        (Role::Event, "event"),
        (Role::Link, "link"),
        (Role::Node, "node"),
    ];
    let starts = roles.map(|(role, name)| (role, tagged(name)));
    for (role, start) in &starts {
        let digest: Digest = start.clone().chain_update([0; 64]).finalize().into();
        assert_eq!(digest, hash(Suite::Sha256, *role, &[&[0; 64]]));
    }
    Box::new(move |role, inputs, out| {
        let start = starts.iter().find(|(of, _)| *of == role).map(|(_, start)| start);
        let one = |input: &&[u8]| start.cloned().unwrap_or_default().chain_update(input).finalize();
        out.extend(inputs.iter().map(|input| Digest::from(one(input))));
    })
}

fn tagged(role: &str) -> Sha256 {
    let tag = Sha256::digest(format!("event-seal/1 {role}"));
    Sha256::new_with_prefix(tag).chain_update(tag)
}

struct Inputs {
    salted: usize,
    bodies: Vec<u8>,
    frames: Vec<u8>,
    links: Vec<u8>,
}

impl Inputs {
    fn of(salted: usize, events: usize) -> Inputs {
        let bytes = |length: usize| (0..events * length).map(|at| (at % 251) as u8).collect();
        Inputs {
            salted,
            bodies: bytes(salted),
            frames: bytes(FRAME),
            links: bytes(LINK),
        }
    }

    fn hash(&self, each: &Each) {
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

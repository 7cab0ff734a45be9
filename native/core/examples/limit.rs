//! What hashing alone allows: the same hashes as a verification takes of events with 300-byte bodies (commitment, event
//! hash, id, Merkle node), over bytes that lie ready in memory, on all cores. Prints `row events/s` for the median of
//! nine runs; `limit EVENTS` says over how many events.
use std::hint::black_box;
use std::time::Instant;

use event_seal_core::lanes::Path;
use event_seal_core::suite::{Role, Suite, hash_each_by};
use rayon::prelude::*;

/// What of an event is hashed, and in which role.
const PARTS: [(Role, usize); 4] = [
    (Role::Body, 384),
    (Role::Event, 128),
    (Role::Link, 256),
    (Role::Node, 64),
];
/// So many events are taken at a time, as a verification does.
const CHUNK: usize = 512;
const RUNS: usize = 9;

fn main() {
    let events = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(500_000);
    let size: usize = PARTS.iter().map(|(_, length)| length).sum();
    let bytes: Vec<u8> = (0..events * size).map(|i| (i % 251) as u8).collect();
    let rate = |path, suite| {
        let mut times: Vec<f64> = (0..RUNS).map(|_| time(path, suite, &bytes, size)).collect();
        times.sort_by(f64::total_cmp);
        events as f64 / times.get(RUNS / 2).copied().unwrap_or(f64::NAN)
    };
    println!("limit_blake3_300 {:.0}", rate(Path::fastest(), Suite::Blake3));
    println!("limit_sha256_300 {:.0}", rate(Path::fastest(), Suite::Sha256));
    println!("sha2_one_by_one_300 {:.0}", rate(Path::Single, Suite::Sha256));
}

fn time(path: Path, suite: Suite, bytes: &[u8], size: usize) -> f64 {
    let start = Instant::now();
    bytes.par_chunks(CHUNK * size).for_each(|chunk| {
        let mut digests = Vec::with_capacity(CHUNK);
        let mut rest = chunk;
        for (role, length) in PARTS {
            let (part, others) = rest.split_at(chunk.len() / size * length);
            let inputs: Vec<&[u8]> = part.chunks_exact(length).collect();
            digests.clear();
            hash_each_by(path, suite, role, &inputs, &mut digests);
            black_box(&digests);
            rest = others;
        }
    });
    start.elapsed().as_secs_f64()
}

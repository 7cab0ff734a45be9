//! The hash crates alone, one input after the other on one core: what `EventSeal.Hash` is measured against.
//!
//!     crates sha256|blake3 BYTES
//!
//! For each line read, inputs of so many bytes are hashed for a fifth of a second, and a line says how many bytes a second.
use std::hint::black_box;
use std::io::{self, BufRead, Error};
use std::time::{Duration, Instant};

use sha2::Digest as _;

const TIME: Duration = Duration::from_millis(200);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [algorithm, bytes] = &arguments[..] else {
        return Err(Error::other("crates sha256|blake3 BYTES"));
    };
    let input = vec![b'b'; bytes.parse().map_err(Error::other)?];
    let hash: fn(&[u8]) -> [u8; 32] = match algorithm.as_str() {
        "sha256" => |input| sha2::Sha256::digest(input).into(),
        "blake3" => |input| blake3::hash(input).into(),
        _ => return Err(Error::other("no such algorithm")),
    };
    for line in io::stdin().lock().lines() {
        line?;
        println!("{:.0}", bytes_per_second(&input, hash));
    }
    Ok(())
}

fn bytes_per_second(input: &[u8], hash: fn(&[u8]) -> [u8; 32]) -> f64 {
    let (started, mut hashed) = (Instant::now(), 0);
    while started.elapsed() < TIME {
        for _ in 0..(65_536 / input.len()).max(1) {
            black_box(hash(black_box(input)));
            hashed += input.len();
        }
    }
    hashed as f64 / started.elapsed().as_secs_f64()
}

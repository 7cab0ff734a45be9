//! Every way to hash side by side, against the crates' one-shot functions: at every length and every count around the
//! lanes' widths.
use proptest::prelude::*;
use sha2::Digest as _;

use crate::digest::{Algorithm, digest_each_by};
use crate::lanes::Path;
use crate::reference;
use crate::suite::{Digest, Role, Suite, hash_each_by};

/// Around two, and around sixteen and the count that is worth a pass of them.
const COUNTS: [usize; 18] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 18, 31, 32, 33, 41];

/// The paths of this CPU. One that it lacks is named, not passed over in silence.
fn paths() -> impl Iterator<Item = Path> {
    let missing = |path: &Path| eprintln!("NOT TESTED: this CPU does not have {path:?}");
    Path::ALL
        .into_iter()
        .filter(move |path| path.is_here() || (missing(path), false).1)
}

/// `count` inputs of `length` bytes, no two alike.
fn inputs(count: usize, length: usize) -> Vec<Vec<u8>> {
    let byte = |lane: usize, at: usize| (lane * 37 + at * 11 + at / 256) as u8;
    (0..count)
        .map(|lane| (0..length).map(|at| byte(lane, at)).collect())
        .collect()
}

fn views(inputs: &[Vec<u8>]) -> Vec<&[u8]> {
    inputs.iter().map(Vec::as_slice).collect()
}

fn sha2_of(input: &[u8]) -> Digest {
    sha2::Sha256::digest(input).into()
}

/// BLAKE3's algorithms, each with what the crate says itself.
fn blake3_of(input: &[u8]) -> [(Algorithm<'static>, Digest); 3] {
    const KEY: &[u8; 32] = b"whats the Elvish word for friend";
    const CONTEXT: &str = "BLAKE3 2019-12-27 16:29:52 test vectors context";
    [
        (Algorithm::Blake3, blake3::hash(input).into()),
        (Algorithm::Blake3Keyed(KEY), blake3::keyed_hash(KEY, input).into()),
        (
            Algorithm::Blake3DeriveKey(CONTEXT),
            blake3::derive_key(CONTEXT, input),
        ),
    ]
}

#[test]
fn sha256_equals_sha2_at_every_length() {
    for path in paths() {
        for length in (0..=330).chain([1023, 1024, 1025, 2111, 2112, 2175, 2176, 2177, 5000]) {
            let inputs = inputs(19, length);
            let expected: Vec<Digest> = inputs.iter().map(|input| sha2_of(input)).collect();
            let digests = digest_each_by(path, Algorithm::Sha256, &views(&inputs));
            assert_eq!(digests, expected, "{path:?}, {length} bytes");
        }
    }
}

#[test]
fn sha256_equals_sha2_at_every_count_of_lanes() {
    for path in paths() {
        for count in COUNTS {
            for length in [0, 55, 56, 64, 256, 300] {
                let inputs = inputs(count, length);
                let expected: Vec<Digest> = inputs.iter().map(|input| sha2_of(input)).collect();
                let digests = digest_each_by(path, Algorithm::Sha256, &views(&inputs));
                assert_eq!(digests, expected, "{path:?}, {count} of {length} bytes");
            }
        }
    }
}

#[test]
fn blake3_equals_its_crate_at_every_length_and_mode() {
    for length in (0..=1100).chain([2047, 2048, 2049, 5000]) {
        let inputs = inputs(17, length);
        for (mode, (algorithm, _)) in blake3_of(&[]).into_iter().enumerate() {
            let expected: Vec<Digest> = inputs.iter().map(|input| blake3_of(input)[mode].1).collect();
            let digests = digest_each_by(Path::fastest(), algorithm, &views(&inputs));
            assert_eq!(digests, expected, "{algorithm:?}, {length} bytes");
        }
    }
}

#[test]
fn blake3_equals_its_crate_at_every_count_of_lanes() {
    for count in COUNTS {
        for length in [0, 64, 100, 1024, 1088] {
            let inputs = inputs(count, length);
            for (mode, (algorithm, _)) in blake3_of(&[]).into_iter().enumerate() {
                let expected: Vec<Digest> = inputs.iter().map(|input| blake3_of(input)[mode].1).collect();
                let digests = digest_each_by(Path::fastest(), algorithm, &views(&inputs));
                assert_eq!(digests, expected, "{algorithm:?}, {count} of {length} bytes");
            }
        }
    }
}

#[test]
fn blake3_of_several_chunks_equals_its_crate_around_every_edge_and_at_every_count() {
    for chunks in 1..=17 {
        for length in [-65, -64, -1, 0, 1, 63, 64, 65, 512].map(|beside| (chunks * 1024 + beside) as usize) {
            for count in [1, 2, 3, 7, 8, 9, 16, 17, 25, 33] {
                let inputs = inputs(count, length);
                let mode = (chunks as usize + count) % 3;
                let algorithm = blake3_of(&[])[mode].0;
                let expected: Vec<Digest> = inputs.iter().map(|input| blake3_of(input)[mode].1).collect();
                let digests = digest_each_by(Path::fastest(), algorithm, &views(&inputs));
                assert_eq!(digests, expected, "{algorithm:?}, {count} of {length} bytes");
            }
        }
    }
}

#[test]
fn roles_are_hashed_alike_by_every_path_at_every_number_of_blocks() {
    for path in paths() {
        for (suite, role) in [(Suite::Sha256, Role::Body), (Suite::Blake3, Role::Event)] {
            for blocks in 0..=40 {
                let inputs = inputs(21, blocks * 64);
                let context = format!(
                    "event-seal/1 {}",
                    if role == Role::Body { "body" } else { "event" }
                );
                let expected: Vec<Digest> = inputs
                    .iter()
                    .map(|input| reference::h(suite, &context, input))
                    .collect();
                let mut digests = Vec::new();
                hash_each_by(path, suite, role, &views(&inputs), &mut digests);
                assert_eq!(digests, expected, "{path:?} {suite:?}, {blocks} blocks");
            }
        }
    }
}

proptest! {
    #[test]
    fn inputs_of_mixed_lengths_keep_their_order(lengths in prop::collection::vec(0_usize..1200, 0..70), seed: u8) {
        let inputs: Vec<Vec<u8>> = lengths
            .iter()
            .zip(0_u8..)
            .map(|(length, i)| (0..*length).map(|at| (at as u8).wrapping_mul(i) ^ seed).collect())
            .collect();
        let views = views(&inputs);
        let expected: Vec<Digest> = inputs.iter().map(|input| sha2_of(input)).collect();
        for path in paths() {
            prop_assert_eq!(&digest_each_by(path, Algorithm::Sha256, &views), &expected);
        }
        for (mode, (algorithm, _)) in blake3_of(&[]).into_iter().enumerate() {
            let expected: Vec<Digest> = inputs.iter().map(|input| blake3_of(input)[mode].1).collect();
            prop_assert_eq!(digest_each_by(Path::fastest(), algorithm, &views), expected);
        }
    }

    #[test]
    fn whole_blocks_of_mixed_lengths_keep_their_order(blocks in prop::collection::vec(0_usize..20, 0..70), seed: u8) {
        let inputs: Vec<Vec<u8>> = blocks
            .iter()
            .zip(0_u8..)
            .map(|(blocks, i)| (0..blocks * 64).map(|at| (at as u8).wrapping_mul(i) ^ seed).collect())
            .collect();
        for suite in [Suite::Sha256, Suite::Blake3] {
            let expected: Vec<Digest> =
                inputs.iter().map(|input| reference::h(suite, "event-seal/1 body", input)).collect();
            for path in paths() {
                let mut digests = Vec::new();
                hash_each_by(path, suite, Role::Body, &views(&inputs), &mut digests);
                prop_assert_eq!(&digests, &expected);
            }
        }
    }
}

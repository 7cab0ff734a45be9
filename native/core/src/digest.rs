//! Plain hashing for hosts: SHA-256 and BLAKE3 as everyone knows them, with no role and no padding.
use sha2::Digest as _;

use crate::lanes::{Begun, Mode, Path, by_length};
use crate::suite::Digest;

/// Which plain hash to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm<'a> {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// BLAKE3.
    Blake3,
    /// BLAKE3 keyed with 32 bytes.
    Blake3Keyed(&'a [u8; 32]),
    /// BLAKE3 in derive-key mode, with its context string.
    Blake3DeriveKey(&'a str),
}

impl Algorithm<'_> {
    /// How BLAKE3 is taken, if it is.
    fn mode(self) -> Option<Mode> {
        match self {
            Algorithm::Sha256 => None,
            Algorithm::Blake3 => Some(Mode::plain()),
            Algorithm::Blake3Keyed(key) => Some(Mode::keyed(key)),
            Algorithm::Blake3DeriveKey(context) => Some(Mode::derive_key(context)),
        }
    }
}

/// A hash being taken of a stream.
#[derive(Clone)]
pub struct Hasher(State);

// One of a kind at a time, and small beside what it hashes: a box would only cost.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Blake3(blake3::Hasher),
}

impl Hasher {
    /// A hash of nothing yet.
    pub fn new(algorithm: Algorithm<'_>) -> Hasher {
        Hasher(match algorithm.mode() {
            None => State::Sha256(sha2::Sha256::new()),
            Some(mode) => State::Blake3(mode.hasher()),
        })
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The hash of all bytes so far; the hasher may go on.
    pub fn finalize(&self) -> Digest {
        match &self.0 {
            State::Sha256(hasher) => hasher.clone().finalize().into(),
            State::Blake3(hasher) => hasher.finalize().into(),
        }
    }
}

/// The hash of each input, in order. Inputs of equal length are hashed side by side.
pub fn digest_each(algorithm: Algorithm<'_>, inputs: &[&[u8]]) -> Vec<Digest> {
    digest_each_by(Path::fastest(), algorithm, inputs)
}

/// `digest_each` by one of the ways to take SHA-256; the digests are the same by all.
pub fn digest_each_by(path: Path, algorithm: Algorithm<'_>, inputs: &[&[u8]]) -> Vec<Digest> {
    let mut digests = vec![[0; 32]; inputs.len()];
    match algorithm.mode() {
        None => by_length(inputs, &mut digests, |inputs, out| {
            Begun::NOTHING.class(path, inputs, out)
        }),
        Some(mode) => by_length(inputs, &mut digests, |inputs, out| mode.class(inputs, out)),
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: &Digest) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn known_answers() {
        let of = |algorithm| hex(&digest_each(algorithm, &[b"abc"])[0]);
        // FIPS 180-4's example, and BLAKE3's own test of the empty input.
        assert_eq!(
            of(Algorithm::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex(&digest_each(Algorithm::Blake3, &[b""])[0]),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn a_stream_equals_one_shot_however_it_is_cut() {
        let key = [7; 32];
        let bytes: Vec<u8> = (0..2050).map(|i| (i % 251) as u8).collect();
        let algorithms = [
            Algorithm::Sha256,
            Algorithm::Blake3,
            Algorithm::Blake3Keyed(&key),
            Algorithm::Blake3DeriveKey("event-seal test 2026"),
        ];
        for algorithm in algorithms {
            let whole = digest_each(algorithm, &[&bytes, b""]);
            for cut in [0, 1, 63, 64, 65, 1023, 1024, 1025, 2050] {
                let mut hasher = Hasher::new(algorithm);
                assert_eq!(hasher.finalize(), whole[1]);
                hasher.update(&bytes[..cut]);
                hasher.update(&bytes[cut..]);
                assert_eq!(hasher.finalize(), whole[0], "{algorithm:?} {cut}");
            }
        }
        let distinct: std::collections::HashSet<_> = algorithms
            .iter()
            .map(|algorithm| digest_each(*algorithm, &[&bytes])[0])
            .collect();
        assert_eq!(distinct.len(), 4);
    }
}

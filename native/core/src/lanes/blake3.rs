//! BLAKE3 of inputs of equal length, in the lanes that the blake3 crate keeps for the chunks of one long input.
//!
//! An input of at most 1,024 bytes is a single chunk, and its hash that chunk's root (BLAKE3's specification, 2.4 to 2.6).
//! The crate's `platform` is no part of its stable interface, so its version is pinned exactly.
use std::sync::LazyLock;

use blake3::platform::Platform;
use blake3::{CHUNK_LEN, Hasher, IncrementCounter};

use super::{Digest, UNIT};

/// So many inputs are handed over at a time: as many as the widest lanes.
const WIDTH: usize = 16;

const CHUNK_START: u8 = 1 << 0;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;
const DERIVE_KEY_MATERIAL: u8 = 1 << 6;

/// What BLAKE3 starts from.
#[derive(Clone)]
pub(crate) struct Mode {
    key: [u32; 8],
    flags: u8,
    hasher: Hasher,
}

impl Mode {
    /// Plain hashing.
    pub(crate) fn plain() -> Mode {
        Mode {
            key: super::INITIAL, // BLAKE3's own are the same as SHA-256's.
            flags: 0,
            hasher: Hasher::new(),
        }
    }

    /// Keyed hashing.
    pub(crate) fn keyed(key: &[u8; 32]) -> Mode {
        Mode {
            key: words(key),
            flags: KEYED_HASH,
            hasher: Hasher::new_keyed(key),
        }
    }

    /// Derive-key mode under a context string.
    pub(crate) fn derive_key(context: &str) -> Mode {
        Mode {
            key: words(&blake3::hazmat::hash_derive_key_context(context)),
            flags: DERIVE_KEY_MATERIAL,
            hasher: Hasher::new_derive_key(context),
        }
    }

    /// A hasher of nothing yet.
    pub(crate) fn hasher(&self) -> Hasher {
        self.hasher.clone()
    }

    /// BLAKE3 of inputs of equal length.
    pub(crate) fn class(&self, inputs: &[&[u8]], out: &mut [Digest]) {
        let length = inputs.first().map_or(0, |input| input.len());
        let whole = length / UNIT * UNIT;
        if length > CHUNK_LEN {
            self.each(inputs, out);
        } else if length == whole && length > 0 {
            self.blocks(length, CHUNK_END | ROOT, inputs, out);
        } else {
            out.fill(bytes(&self.key));
            self.blocks(whole, 0, inputs, out);
            let start = if whole == 0 { CHUNK_START } else { 0 };
            for (input, digest) in inputs.iter().zip(out) {
                self.finish(start, input.get(whole..).unwrap_or_default(), digest);
            }
        }
    }

    /// What comes of the first `length` bytes, which are whole blocks.
    fn blocks(&self, length: usize, flags_end: u8, inputs: &[&[u8]], out: &mut [Digest]) {
        match length {
            64 => self.lanes::<64>(flags_end, inputs, out),
            128 => self.lanes::<128>(flags_end, inputs, out),
            192 => self.lanes::<192>(flags_end, inputs, out),
            256 => self.lanes::<256>(flags_end, inputs, out),
            320 => self.lanes::<320>(flags_end, inputs, out),
            384 => self.lanes::<384>(flags_end, inputs, out),
            448 => self.lanes::<448>(flags_end, inputs, out),
            512 => self.lanes::<512>(flags_end, inputs, out),
            576 => self.lanes::<576>(flags_end, inputs, out),
            640 => self.lanes::<640>(flags_end, inputs, out),
            704 => self.lanes::<704>(flags_end, inputs, out),
            768 => self.lanes::<768>(flags_end, inputs, out),
            832 => self.lanes::<832>(flags_end, inputs, out),
            896 => self.lanes::<896>(flags_end, inputs, out),
            960 => self.lanes::<960>(flags_end, inputs, out),
            CHUNK_LEN => self.lanes::<CHUNK_LEN>(flags_end, inputs, out),
            _ => {}
        }
    }

    fn lanes<const N: usize>(&self, flags_end: u8, inputs: &[&[u8]], out: &mut [Digest]) {
        for (inputs, out) in inputs.chunks(WIDTH).zip(out.chunks_mut(WIDTH)) {
            let mut blocks = [&[0; N]; WIDTH];
            for (block, input) in blocks.iter_mut().zip(inputs) {
                *block = input.first_chunk().unwrap_or(*block);
            }
            PLATFORM.hash_many(
                blocks.get(..inputs.len()).unwrap_or_default(),
                &self.key,
                0,
                IncrementCounter::No,
                self.flags,
                CHUNK_START,
                flags_end,
                out.as_flattened_mut(),
            );
        }
    }

    /// The digest, where the chaining value of the blocks before stands, of an input that ends with less than a block.
    fn finish(&self, start: u8, rest: &[u8], digest: &mut Digest) {
        let mut block = [0; UNIT];
        for (byte, value) in block.iter_mut().zip(rest) {
            *byte = *value;
        }
        let mut state = words(digest);
        let flags = self.flags | start | CHUNK_END | ROOT;
        PLATFORM.compress_in_place(&mut state, &block, rest.len() as u8, 0, flags);
        *digest = bytes(&state);
    }

    fn each(&self, inputs: &[&[u8]], out: &mut [Digest]) {
        for (input, digest) in inputs.iter().zip(out) {
            *digest = self.hasher().update(input).finalize().into();
        }
    }
}

static PLATFORM: LazyLock<Platform> = LazyLock::new(Platform::detect);

fn words(key: &[u8; 32]) -> [u32; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

fn bytes(words: &[u32; 8]) -> Digest {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

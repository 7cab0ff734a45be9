//! BLAKE3 of inputs of equal length, in the lanes that the blake3 crate keeps for the chunks of one long input.
//!
//! An input of at most 1,024 bytes is a single chunk, and its hash that chunk's root (BLAKE3's specification, 2.4 to 2.6).
//! Of longer ones the same chunk of all inputs is taken side by side, and so are the nodes of the trees over them.
//! The crate's `platform` is no part of its stable interface, so its version is pinned exactly.
use std::sync::LazyLock;

use blake3::platform::Platform;
use blake3::{CHUNK_LEN, Hasher, IncrementCounter};

use super::{Digest, UNIT};

/// So many inputs are handed over at a time: as many as the widest lanes.
const WIDTH: usize = 16;
/// An input of more chunks fills the lanes by itself.
const CHUNKS: usize = 16;

const CHUNK_START: u8 = 1 << 0;
const CHUNK_END: u8 = 1 << 1;
const PARENT: u8 = 1 << 2;
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
            self.long(length, inputs, out);
        } else if length == whole && length > 0 {
            self.chunk(0, length, CHUNK_END | ROOT, inputs, out);
        } else {
            out.fill(bytes(&self.key));
            self.chunk(0, whole, 0, inputs, out);
            let start = if whole == 0 { CHUNK_START } else { 0 };
            for (input, digest) in inputs.iter().zip(out) {
                self.finish(start, input.get(whole..).unwrap_or_default(), digest);
            }
        }
    }

    /// Inputs of more than one chunk.
    fn long(&self, length: usize, inputs: &[&[u8]], out: &mut [Digest]) {
        let chunks = length.div_ceil(CHUNK_LEN);
        let whole = length.is_multiple_of(UNIT) && chunks <= CHUNKS;
        for (inputs, out) in inputs.chunks(WIDTH).zip(out.chunks_mut(WIDTH)) {
            // Of few inputs each has as many chunks to fill the lanes with.
            if whole && inputs.len() >= chunks.min(WIDTH / 2) {
                self.trees(length, inputs, out);
            } else {
                self.each(inputs, out);
            }
        }
    }

    /// The roots of trees over the chunks of as many inputs as there are lanes: level by level, an odd last node moving up
    /// as it is (BLAKE3's specification, 2.1).
    fn trees(&self, length: usize, inputs: &[&[u8]], out: &mut [Digest]) {
        let mut values = [[[0; 32]; CHUNKS]; WIDTH];
        let mut width = 0;
        for at in (0..length).step_by(CHUNK_LEN) {
            self.chunk(at, CHUNK_LEN.min(length - at), CHUNK_END, inputs, out);
            put(&mut values, width, out);
            width += 1;
        }
        while width > 1 {
            let pass = Pass {
                mode: self,
                at: 0,
                flags: self.flags | PARENT,
                start: 0,
                end: if width == 2 { ROOT } else { 0 },
            };
            for pair in 0..width / 2 {
                let nodes = values.each_ref().map(|own| node(own, pair));
                pass.lanes::<UNIT>(nodes.get(..inputs.len()).unwrap_or_default(), out);
                put(&mut values, pair, out);
            }
            if width % 2 == 1 {
                values
                    .iter_mut()
                    .for_each(|own| own.copy_within(width - 1..width, width / 2));
            }
            width = width.div_ceil(2);
        }
    }

    /// What comes of `length` bytes from `at` on, which are whole blocks of one chunk.
    fn chunk(&self, at: usize, length: usize, end: u8, inputs: &[&[u8]], out: &mut [Digest]) {
        let pass = Pass {
            mode: self,
            at,
            flags: self.flags,
            start: CHUNK_START,
            end,
        };
        match length {
            64 => pass.lanes::<64>(inputs, out),
            128 => pass.lanes::<128>(inputs, out),
            192 => pass.lanes::<192>(inputs, out),
            256 => pass.lanes::<256>(inputs, out),
            320 => pass.lanes::<320>(inputs, out),
            384 => pass.lanes::<384>(inputs, out),
            448 => pass.lanes::<448>(inputs, out),
            512 => pass.lanes::<512>(inputs, out),
            576 => pass.lanes::<576>(inputs, out),
            640 => pass.lanes::<640>(inputs, out),
            704 => pass.lanes::<704>(inputs, out),
            768 => pass.lanes::<768>(inputs, out),
            832 => pass.lanes::<832>(inputs, out),
            896 => pass.lanes::<896>(inputs, out),
            960 => pass.lanes::<960>(inputs, out),
            CHUNK_LEN => pass.lanes::<CHUNK_LEN>(inputs, out),
            _ => {}
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

/// What is taken side by side: the chunk that begins at `at`, or nodes.
struct Pass<'m> {
    mode: &'m Mode,
    at: usize,
    flags: u8,
    start: u8,
    end: u8,
}

impl Pass<'_> {
    fn lanes<const N: usize>(&self, inputs: &[&[u8]], out: &mut [Digest]) {
        for (inputs, out) in inputs.chunks(WIDTH).zip(out.chunks_mut(WIDTH)) {
            let mut blocks = [&[0; N]; WIDTH];
            for (block, input) in blocks.iter_mut().zip(inputs) {
                *block = input
                    .get(self.at..)
                    .and_then(<[u8]>::first_chunk)
                    .unwrap_or(*block);
            }
            PLATFORM.hash_many(
                blocks.get(..inputs.len()).unwrap_or_default(),
                &self.mode.key,
                (self.at / CHUNK_LEN) as u64,
                IncrementCounter::No,
                self.flags,
                self.start,
                self.end,
                out.as_flattened_mut(),
            );
        }
    }
}

/// The values of the lanes at one place of their trees.
fn put(values: &mut [[Digest; CHUNKS]; WIDTH], at: usize, made: &[Digest]) {
    for (own, made) in values.iter_mut().zip(made) {
        if let Some(value) = own.get_mut(at) {
            *value = *made;
        }
    }
}

/// What a node over two values is the hash of.
fn node(values: &[Digest; CHUNKS], pair: usize) -> &[u8] {
    values
        .as_chunks::<2>()
        .0
        .get(pair)
        .map_or(&[], |pair| pair.as_flattened())
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

//! SHA-256's parts: blocks, lanes of states, padding. FIPS 180-4.
use sha2::block_api::compress256;

use super::{Digest, UNIT};

/// What SHA-256 compresses at a time.
pub(super) type Block = [u8; UNIT];

/// The states of `N` lanes, by word: the form in which vectors hold them.
pub(super) type States<const N: usize> = [[u32; N]; 8];

/// The last block of all inputs of one length: it holds padding alone, so its schedule is known beforehand.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub block: Block,
    /// The expanded words, the round constants added.
    pub schedule: [u32; 64],
}

/// `N` lanes of SHA-256.
pub(super) trait Kernel<const N: usize>: Copy {
    /// Takes in the inputs' blocks; they are of equal length.
    fn compress(self, states: &mut States<N>, inputs: &[&[Block]; N]);

    /// Takes in the last block.
    fn finish(self, states: &mut States<N>, last: &Last);

    /// The digests that the states are.
    fn digests(self, states: &States<N>) -> [Digest; N] {
        std::array::from_fn(|lane| digest_of(states.map(|word| word.get(lane).copied().unwrap_or_default())))
    }
}

/// sha2, one input at a time.
#[derive(Clone, Copy)]
pub(super) struct Single;

impl Kernel<1> for Single {
    fn compress(self, states: &mut States<1>, [input]: &[&[Block]; 1]) {
        let mut state = states.map(|[word]| word);
        compress256(&mut state, input);
        *states = state.map(|word| [word]);
    }

    fn finish(self, states: &mut States<1>, last: &Last) {
        self.compress(states, &[&[last.block]]);
    }
}

impl Last {
    /// The last block behind `blocks` others.
    pub(super) fn behind(blocks: usize) -> Last {
        let [block, _] = End::of(&[], blocks * UNIT).padded;
        let schedule = schedule(&block);
        Last { block, schedule }
    }
}

/// The end of one input: what fills no block, and the padding.
pub(super) struct End {
    padded: [Block; 2],
    count: usize,
}

impl End {
    /// The end of an input that comes behind `before` bytes, themselves whole blocks.
    pub(super) fn of(input: &[u8], before: usize) -> End {
        let (_, rest) = input.as_chunks::<UNIT>();
        let count = if rest.len() < UNIT - 8 { 1 } else { 2 };
        let mut padded = [[0; UNIT]; 2];
        let bytes = padded.as_flattened_mut();
        for (byte, value) in bytes.iter_mut().zip(rest.iter().chain(&[0x80])) {
            *byte = *value;
        }
        let length = (before as u64 + input.len() as u64) * 8;
        if let Some(bits) = bytes
            .get_mut(..count * UNIT)
            .and_then(<[u8]>::last_chunk_mut::<8>)
        {
            *bits = length.to_be_bytes();
        }
        End { padded, count }
    }

    pub(super) fn blocks(&self) -> &[Block] {
        self.padded.get(..self.count).unwrap_or_default()
    }
}

fn schedule(block: &Block) -> [u32; 64] {
    let mut w = [0_u32; 64];
    for (word, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for t in 16..64 {
        let at = |back: usize| w.get(t - back).copied().unwrap_or_default();
        let (near, far) = (at(15), at(2));
        let small = near.rotate_right(7) ^ near.rotate_right(18) ^ (near >> 3);
        let great = far.rotate_right(17) ^ far.rotate_right(19) ^ (far >> 10);
        let next = at(16).wrapping_add(small).wrapping_add(at(7)).wrapping_add(great);
        if let Some(word) = w.get_mut(t) {
            *word = next;
        }
    }
    for (word, k) in w.iter_mut().zip(ROUND) {
        *word = word.wrapping_add(k);
    }
    w
}

/// The digest that a state is.
pub(crate) fn digest_of(state: [u32; 8]) -> Digest {
    let mut digest = [0; 32];
    let (words, _) = digest.as_chunks_mut::<4>();
    for (word, value) in words.iter_mut().zip(state) {
        *word = value.to_be_bytes();
    }
    digest
}

/// FIPS 180-4, 5.3.3.
pub(crate) const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// FIPS 180-4, 4.2.2.
pub(super) const ROUND: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

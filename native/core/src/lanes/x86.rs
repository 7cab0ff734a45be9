//! SHA-256 in x86-64's vector registers: sixteen inputs in AVX-512 lanes, or two in interleaved streams of the SHA
//! extensions. The crate's only unsafe code: it reads and writes through pointers that come from slices and arrays, and
//! calls what only some CPUs can do, behind proof that this one can.
#![allow(unsafe_code)]
// Indices count through arrays of fixed length, and through inputs up to the shortest one's length.
#![allow(clippy::indexing_slicing)]

use std::arch::x86_64::*;

use super::Digest;
use super::sha256::{Block, Kernel, Last, ROUND, States};

/// Proof that the CPU has AVX-512 F and BW.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Avx512> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        found.then_some(Avx512(()))
    }
}

impl Kernel<16> for Avx512 {
    fn compress(self, states: &mut States<16>, inputs: &[&[Block]; 16]) {
        // SAFETY: an `Avx512` is made only where the CPU has the features that the function is compiled for.
        unsafe { compress_16(states, inputs) }
    }

    fn finish(self, states: &mut States<16>, last: &Last) {
        // SAFETY: as above.
        unsafe { finish_16(states, &last.schedule) }
    }

    fn digests(self, states: &States<16>) -> [Digest; 16] {
        // SAFETY: as above.
        unsafe { digests_16(states) }
    }
}

/// Proof that the CPU has the SHA extensions, and SSSE3 and SSE4.1 beside them.
#[derive(Clone, Copy)]
pub(super) struct ShaNi(());

impl ShaNi {
    pub(super) fn detect() -> Option<ShaNi> {
        let found = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        found.then_some(ShaNi(()))
    }
}

impl Kernel<2> for ShaNi {
    fn compress(self, states: &mut States<2>, inputs: &[&[Block]; 2]) {
        // SAFETY: a `ShaNi` is made only where the CPU has the features that the function is compiled for.
        unsafe { compress_2(states, inputs) }
    }

    fn finish(self, states: &mut States<2>, last: &Last) {
        // SAFETY: as above.
        unsafe { finish_2(states, &last.schedule) }
    }
}

macro_rules! round_16 {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $word:expr) => {
        let sum = xor3!(
            _mm512_ror_epi32::<6>($e),
            _mm512_ror_epi32::<11>($e),
            _mm512_ror_epi32::<25>($e)
        );
        let choice = _mm512_ternarylogic_epi32::<0xca>($e, $f, $g);
        let first = add!(add!($h, $word), add!(sum, choice));
        let sum = xor3!(
            _mm512_ror_epi32::<2>($a),
            _mm512_ror_epi32::<13>($a),
            _mm512_ror_epi32::<22>($a)
        );
        let majority = _mm512_ternarylogic_epi32::<0xe8>($a, $b, $c);
        $d = add!($d, first);
        $h = add!(first, add!(sum, majority));
    };
}

macro_rules! rounds_16 {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $word:ident, $($i:literal)*) => {
        rounds_16!(@ [$a $b $c $d $e $f $g $h] $word, $($i)*)
    };
    (@ [$a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident] $word:ident,) => {};
    (@ [$a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident] $word:ident, $i:literal $($rest:literal)*) => {
        round_16!($a $b $c $d $e $f $g $h, $word!($i));
        rounds_16!(@ [$h $a $b $c $d $e $f $g] $word, $($rest)*);
    };
}

macro_rules! add {
    ($x:expr, $y:expr) => {
        _mm512_add_epi32($x, $y)
    };
}

macro_rules! xor3 {
    ($x:expr, $y:expr, $z:expr) => {
        _mm512_ternarylogic_epi32::<0x96>($x, $y, $z)
    };
}

#[target_feature(enable = "avx512f,avx512bw")]
fn compress_16(states: &mut States<16>, inputs: &[&[Block]; 16]) {
    let length = inputs.iter().map(|input| input.len()).min().unwrap_or_default();
    let mut state = load_states(states);
    for at in 0..length {
        let mut w = load_blocks(inputs, at);
        let before = state;
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        let [k, later @ ..] = ROUND.as_chunks::<16>().0 else {
            return;
        };
        macro_rules! given {
            ($i:literal) => {
                add!(w[$i], _mm512_set1_epi32(k[$i] as i32))
            };
        }
        rounds_16!(a b c d e f g h, given, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for k in later {
            macro_rules! expanded {
                ($i:literal) => {{
                    let (near, far) = (w[($i + 1) & 15], w[($i + 14) & 15]);
                    let small = xor3!(
                        _mm512_ror_epi32::<7>(near),
                        _mm512_ror_epi32::<18>(near),
                        _mm512_srli_epi32::<3>(near)
                    );
                    let great = xor3!(
                        _mm512_ror_epi32::<17>(far),
                        _mm512_ror_epi32::<19>(far),
                        _mm512_srli_epi32::<10>(far)
                    );
                    w[$i] = add!(add!(w[$i], small), add!(w[($i + 9) & 15], great));
                    add!(w[$i], _mm512_set1_epi32(k[$i] as i32))
                }};
            }
            rounds_16!(a b c d e f g h, expanded, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }
        state = [a, b, c, d, e, f, g, h];
        for (word, before) in state.iter_mut().zip(before) {
            *word = add!(*word, before);
        }
    }
    store_states(state, states);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn finish_16(states: &mut States<16>, schedule: &[u32; 64]) {
    let before = load_states(states);
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = before;
    for words in schedule.as_chunks::<8>().0 {
        macro_rules! known {
            ($i:literal) => {
                _mm512_set1_epi32(words[$i] as i32)
            };
        }
        rounds_16!(a b c d e f g h, known, 0 1 2 3 4 5 6 7);
    }
    let mut state = [a, b, c, d, e, f, g, h];
    for (word, before) in state.iter_mut().zip(before) {
        *word = add!(*word, before);
    }
    store_states(state, states);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn load_states(states: &States<16>) -> [__m512i; 8] {
    // SAFETY: sixteen words of four bytes are as long as the vector that is read.
    states
        .each_ref()
        .map(|word| unsafe { _mm512_loadu_si512(word.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f,avx512bw")]
fn store_states(state: [__m512i; 8], states: &mut States<16>) {
    for (word, vector) in states.iter_mut().zip(state) {
        // SAFETY: sixteen words of four bytes are as long as the vector that is written.
        unsafe { _mm512_storeu_si512(word.as_mut_ptr().cast(), vector) }
    }
}

/// The `at`-th block of each input, by word.
#[target_feature(enable = "avx512f,avx512bw")]
fn load_blocks(inputs: &[&[Block]; 16], at: usize) -> [__m512i; 16] {
    let swap = byte_swap_16();
    transposed(inputs.map(|input| {
        let block = &input[at];
        // SAFETY: a block's 64 bytes are as long as the vector that is read.
        let words = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        _mm512_shuffle_epi8(words, swap)
    }))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn digests_16(states: &States<16>) -> [Digest; 16] {
    let swap = byte_swap_16();
    let [a, b, c, d, e, f, g, h] = load_states(states);
    let none = _mm512_setzero_si512();
    let mut digests = [[0; 32]; 16];
    let rows = transposed([
        a, b, c, d, e, f, g, h, none, none, none, none, none, none, none, none,
    ]);
    for (digest, row) in digests.iter_mut().zip(rows) {
        let row = _mm512_castsi512_si256(_mm512_shuffle_epi8(row, swap));
        // SAFETY: a digest's 32 bytes are as long as the vector that is written.
        unsafe { _mm256_storeu_si256(digest.as_mut_ptr().cast(), row) }
    }
    digests
}

#[target_feature(enable = "avx512f,avx512bw")]
fn byte_swap_16() -> __m512i {
    _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3))
}

/// Rows become columns.
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut out = r;
    for i in [0, 4, 8, 12] {
        let low = [
            _mm512_unpacklo_epi32(r[i], r[i + 1]),
            _mm512_unpacklo_epi32(r[i + 2], r[i + 3]),
        ];
        let high = [
            _mm512_unpackhi_epi32(r[i], r[i + 1]),
            _mm512_unpackhi_epi32(r[i + 2], r[i + 3]),
        ];
        out[i] = _mm512_unpacklo_epi64(low[0], low[1]);
        out[i + 1] = _mm512_unpackhi_epi64(low[0], low[1]);
        out[i + 2] = _mm512_unpacklo_epi64(high[0], high[1]);
        out[i + 3] = _mm512_unpackhi_epi64(high[0], high[1]);
    }
    let q = out;
    for j in 0..4 {
        let even = [
            _mm512_shuffle_i32x4::<0x88>(q[j], q[4 + j]),
            _mm512_shuffle_i32x4::<0x88>(q[8 + j], q[12 + j]),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(q[j], q[4 + j]),
            _mm512_shuffle_i32x4::<0xdd>(q[8 + j], q[12 + j]),
        ];
        out[j] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        out[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        out[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    out
}

/// What the SHA extensions work on: a, b, e, f in one register, c, d, g, h in the other.
type Halves = [__m128i; 2];

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_2(states: &mut States<2>, inputs: &[&[Block]; 2]) {
    let length = inputs.iter().map(|input| input.len()).min().unwrap_or_default();
    let mut halves = [halves_of(states, 0), halves_of(states, 1)];
    for at in 0..length {
        let before = halves;
        let mut w = inputs.map(|input| load_words(&input[at]));
        for (i, k) in ROUND.as_chunks::<4>().0.iter().enumerate() {
            let k = load_four(k);
            for (halves, w) in halves.iter_mut().zip(&mut w) {
                if i >= 4 {
                    *w = expanded_four(*w);
                }
                let at = if i >= 4 { 3 } else { i };
                four_rounds(halves, _mm_add_epi32(w[at], k));
            }
        }
        halves = [sum(halves[0], before[0]), sum(halves[1], before[1])];
    }
    store_halves(halves, states);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn finish_2(states: &mut States<2>, schedule: &[u32; 64]) {
    let before = [halves_of(states, 0), halves_of(states, 1)];
    let mut halves = before;
    for words in schedule.as_chunks::<4>().0 {
        let words = load_four(words);
        four_rounds(&mut halves[0], words);
        four_rounds(&mut halves[1], words);
    }
    store_halves([sum(halves[0], before[0]), sum(halves[1], before[1])], states);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds(halves: &mut Halves, words: __m128i) {
    let [abef, cdgh] = *halves;
    let efgh = _mm_sha256rnds2_epu32(cdgh, abef, words);
    *halves = [
        _mm_sha256rnds2_epu32(abef, efgh, _mm_shuffle_epi32::<0x0e>(words)),
        efgh,
    ];
}

/// The next four words of the schedule behind the last sixteen, which move on by four.
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn expanded_four([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8::<4>(d, c));
    [b, c, d, _mm_sha256msg2_epu32(sum, d)]
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sum(x: Halves, y: Halves) -> Halves {
    [_mm_add_epi32(x[0], y[0]), _mm_add_epi32(x[1], y[1])]
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_four(words: &[u32; 4]) -> __m128i {
    // SAFETY: four words of four bytes are as long as the vector that is read.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_words(block: &Block) -> [__m128i; 4] {
    let swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    let mut words = [swap; 4];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
        // SAFETY: sixteen bytes are as long as the vector that is read.
        *word = _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, swap);
    }
    words
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn halves_of(states: &States<2>, lane: usize) -> Halves {
    let [a, b, c, d, e, f, g, h] = states.map(|word| word[lane] as i32);
    [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store_halves(halves: [Halves; 2], states: &mut States<2>) {
    for (lane, [abef, cdgh]) in halves.into_iter().enumerate() {
        let words = [
            _mm_extract_epi32::<3>(abef),
            _mm_extract_epi32::<2>(abef),
            _mm_extract_epi32::<3>(cdgh),
            _mm_extract_epi32::<2>(cdgh),
            _mm_extract_epi32::<1>(abef),
            _mm_extract_epi32::<0>(abef),
            _mm_extract_epi32::<1>(cdgh),
            _mm_extract_epi32::<0>(cdgh),
        ];
        for (state, word) in states.iter_mut().zip(words) {
            state[lane] = word as u32;
        }
    }
}

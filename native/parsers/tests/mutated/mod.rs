//! What becomes of a file of the corpus: bytes flipped, numbers set to edges, stretches cut, doubled, moved and grafted. From
//! a seed, so that what was found once is found again.

/// What numbers are set to: the edges of what fits.
const EDGES: [u64; 9] = [
    0,
    1,
    63,
    64,
    0x7fff_ffff,
    0x8000_0000,
    (1 << 53) - 1,
    i64::MAX as u64,
    u64::MAX,
];
/// What texts are made of.
const TOKENS: [&[u8]; 12] = [
    b"\n",
    b"\n\n",
    b"\0",
    b"null",
    b"{\"",
    b"\"}",
    "\u{2014} ".as_bytes(),
    b"+",
    b"18446744073709551615",
    b"-0",
    b"=",
    "\u{85}".as_bytes(),
];

/// A generator of pseudorandom numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Begins from a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`; 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A file of the corpus changed in one to four ways; `other` is one that it may be grafted with.
pub fn mutated(file: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=random.below(4) {
        change(&mut bytes, other, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(40)).min(bytes.len());
    match random.below(10) {
        0..=2 => flip(bytes, at, random),
        3 => edge(bytes, at, random),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end.max(at))),
        6 => {
            let copy = bytes[at..end.max(at)].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, copy);
        }
        7 => {
            let token = random.of(&TOKENS);
            bytes.splice(at..at, token.iter().copied());
        }
        8 => {
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        _ => {
            let number = random.next().to_string();
            bytes.splice(at..end.max(at), number.bytes().take(3));
        }
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) {
    let bits = random.of(&[1, 2, 4, 8, 16, 32, 64, 128, 255]);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bits;
    }
}

/// A number of one to eight bytes, big-endian.
fn edge(bytes: &mut [u8], at: usize, random: &mut Random) {
    let number = random.of(&EDGES).to_be_bytes();
    let length = random.of(&[1, 2, 4, 8]);
    for (byte, new) in bytes.iter_mut().skip(at).zip(&number[8 - length..]) {
        *byte = *new;
    }
}

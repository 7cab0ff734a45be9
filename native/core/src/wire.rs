//! Reading and writing the bytes of format 1: big-endian integers, texts, zero padding.
use crate::suite::{Digest, UNIT};

pub(crate) mod lines;
pub(crate) mod text;

/// Bytes that are not of format 1: at which offset, and what was wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset into the decoded bytes.
    pub at: u64,
    /// What was expected there, in a stable, short name.
    pub what: &'static str,
}

impl Malformed {
    pub(crate) fn new(at: usize, what: &'static str) -> Malformed {
        Malformed { at: at as u64, what }
    }

    /// The same fault of bytes that stand `offset` into greater ones.
    pub(crate) fn within(self, offset: usize) -> Malformed {
        Malformed {
            at: self.at + offset as u64,
            ..self
        }
    }
}

/// The bounds of times, counters and positions: no JSON parser rounds them.
pub const LIMIT: i64 = (1 << 53) - 1;

/// The length `n` padded to a multiple of 64.
pub(crate) fn padded(n: usize) -> usize {
    n.next_multiple_of(UNIT)
}

/// Pads what was written since `start` with zero bytes to a multiple of 64.
pub(crate) fn pad(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    out.resize(start + padded(length), 0);
}

pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Whether a text holds a control character, which format 1 refuses (U+0000–1F, U+007F–9F).
pub fn has_control(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_ascii() {
        bytes.iter().any(|&byte| byte < 0x20 || byte == 0x7f)
    } else {
        text.chars().any(char::is_control)
    }
}

/// Reads forward through borrowed bytes; nothing is read past their end.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed::new(self.at, what))
    }

    /// A value that is there if a flag says so; else it is written as zero.
    pub(crate) fn optional<T: Default + PartialEq>(
        &self,
        there: bool,
        value: T,
    ) -> Result<Option<T>, Malformed> {
        match there {
            true => Ok(Some(value)),
            false if value == T::default() => Ok(None),
            false => self.fail("flag"),
        }
    }

    pub(crate) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed::new(self.at, what))?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or(Malformed::new(self.at, what))?;
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N], Malformed> {
        let at = self.at;
        self.take(N, what)?.first_chunk().ok_or(Malformed::new(at, what))
    }

    pub(crate) fn digest(&mut self, what: &'static str) -> Result<&'a Digest, Malformed> {
        self.array(what)
    }

    /// A run of digests, zero-padded to 64.
    pub(crate) fn digests(&mut self, count: usize, what: &'static str) -> Result<&'a [Digest], Malformed> {
        let start = self.at;
        let (digests, _) = self.take(count.saturating_mul(32), what)?.as_chunks();
        self.zeros_to_unit(start)?;
        Ok(digests)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|[byte]| *byte)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.array(what).map(|bytes| i32::from_be_bytes(*bytes))
    }

    /// A counter or position: at most 2⁵³−1.
    pub(crate) fn counter(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let at = self.at;
        let value = self.u64(what)?;
        if value <= LIMIT as u64 {
            Ok(value)
        } else {
            Err(Malformed::new(at, what))
        }
    }

    /// A time in microseconds: within ±(2⁵³−1).
    pub(crate) fn time(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let at = self.at;
        let value = self.array(what).map(|bytes| i64::from_be_bytes(*bytes))?;
        if (-LIMIT..=LIMIT).contains(&value) {
            Ok(value)
        } else {
            Err(Malformed::new(at, what))
        }
    }

    /// A text of `min` to `max` bytes.
    #[inline]
    pub(crate) fn text(&mut self, min: usize, max: usize, what: &'static str) -> Result<&'a str, Malformed> {
        let at = self.at;
        let length = usize::from(self.u16(what)?);
        let bytes = self.take(length, what)?;
        let plain = bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
        match std::str::from_utf8(bytes) {
            Ok(text) if (min..=max).contains(&length) && (plain || !has_control(text)) => Ok(text),
            _ => Err(Malformed::new(at, what)),
        }
    }

    pub(crate) fn zeros(&mut self, count: usize) -> Result<(), Malformed> {
        let at = self.at;
        let bytes = self.take(count, "padding")?;
        if is_zero(bytes) {
            Ok(())
        } else {
            Err(Malformed::new(at, "padding"))
        }
    }

    /// The zero padding of what began at `start`.
    pub(crate) fn zeros_to_unit(&mut self, start: usize) -> Result<(), Malformed> {
        let length = self.at - start;
        self.zeros(padded(length) - length)
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            self.fail("length")
        }
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

//! Reading a text line by line, strictly. Some lines are a key, one space and a value that is not empty.
use super::Malformed;
use super::text::{decimal, from_hex};

/// Reads forward, line by line.
pub(crate) struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Lines<'a> {
        Lines { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed::new(self.at, what))
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next line, which ends with a line feed.
    pub(crate) fn line(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let (line, _) = self
            .rest()
            .split_once('\n')
            .ok_or(Malformed::new(self.at, what))?;
        self.at += line.len() + 1;
        Ok(line)
    }

    /// The next line, read by a function that knows only one way to write it.
    pub(crate) fn line_as<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, Malformed> {
        let at = self.at;
        read(self.line(what)?).ok_or(Malformed::new(at, what))
    }

    /// The next line is this one.
    pub(crate) fn exactly(&mut self, expected: &str, what: &'static str) -> Result<(), Malformed> {
        self.line_as(what, |line| (line == expected).then_some(()))
    }

    /// The value of the next line, if that has this key.
    pub(crate) fn if_any(&mut self, key: &'static str) -> Result<Option<&'a str>, Malformed> {
        let value = self
            .rest()
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix(' '));
        if value.is_none() {
            return Ok(None);
        }
        let at = self.at;
        match self.line(key)?.get(key.len() + 1..) {
            Some(value) if !value.is_empty() => Ok(Some(value)),
            _ => Err(Malformed::new(at, key)),
        }
    }

    /// The value of the next line, which has this key.
    pub(crate) fn value(&mut self, key: &'static str) -> Result<&'a str, Malformed> {
        let at = self.at;
        self.if_any(key)?.ok_or(Malformed::new(at, key))
    }

    /// The value, read likewise.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, Malformed> {
        let at = self.at;
        read(self.value(key)?).ok_or(Malformed::new(at, key))
    }

    pub(crate) fn number<T: std::str::FromStr + std::fmt::Display>(
        &mut self,
        key: &'static str,
    ) -> Result<T, Malformed> {
        self.read(key, decimal)
    }

    pub(crate) fn hex<const N: usize>(&mut self, key: &'static str) -> Result<[u8; N], Malformed> {
        self.read(key, from_hex)
    }

    pub(crate) fn flag(&mut self, key: &'static str) -> Result<bool, Malformed> {
        self.read(key, |value| value.parse().ok())
    }

    /// So many lines of this key, each a digest.
    pub(crate) fn digests(&mut self, key: &'static str, count: u64) -> Result<Vec<[u8; 32]>, Malformed> {
        (0..count).map(|_| self.hex(key)).collect()
    }
}

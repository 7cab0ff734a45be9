//! Bytes that lie where the core does not reach by itself.
use std::ops::Range;

use super::ReadFault;

/// Bytes of which any part can be read: memory, or a file of the caller's.
pub trait ReadAt: Sync {
    /// How many there are.
    fn length(&self) -> u64;

    /// The bytes of a range, read into `buffer` or borrowed. They may be asked for more than once, from many threads.
    fn read_at<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault>;
}

impl ReadAt for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at<'a>(&'a self, range: Range<u64>, _: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        let at = |offset: u64| usize::try_from(offset).map_err(|_| ReadFault);
        self.get(at(range.start)?..at(range.end)?).ok_or(ReadFault)
    }
}

//! Files as `event_seal_core` reads them: any part, from many threads, with no position that they would share.

use event_seal_core::verify::{ReadAt, ReadFault};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

mod together;

pub use together::{Place, read_together};

/// So much is read between two looks at whether it is still wanted.
const STRETCH: usize = 4 << 20;

/// A file, and how long it was when it was opened.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    length: u64,
}

impl File {
    /// Opens a file for reading.
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        Ok(File { file, length })
    }

    /// How long it was when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes of a range. No more is asked for than the file can hold, whatever the caller says.
    pub fn read<'a>(&self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        self.read_while(range, buffer, || true)
    }

    /// The same as long as it is `wanted`, which is asked every few megabytes.
    pub fn read_while<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut Vec<u8>,
        wanted: impl Fn() -> bool,
    ) -> io::Result<&'a [u8]> {
        let length = range
            .end
            .checked_sub(range.start)
            .filter(|_| range.end <= self.length);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(ErrorKind::UnexpectedEof)?;
        buffer.truncate(length);
        buffer
            .try_reserve_exact(length - buffer.len())
            .map_err(|_| ErrorKind::OutOfMemory)?;
        for at in (0..length).step_by(STRETCH) {
            // What was in the buffer need not be zeroed again.
            let end = length.min(at + STRETCH);
            buffer.resize(end.max(buffer.len()), 0);
            let room = buffer.get_mut(at..end).filter(|_| wanted());
            read_exact_at(
                &self.file,
                room.ok_or(ErrorKind::Interrupted)?,
                range.start + at as u64,
            )?;
        }
        Ok(buffer)
    }
}

impl ReadAt for File {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        self.read(range, buffer).map_err(|_| ReadFault)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &std::fs::File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        buffer = buffer.get_mut(read..).unwrap_or_default();
        offset += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_can_be_read_and_nothing_beyond_the_end() {
        let file = File::open(
            file!()
                .rsplit_once("native/files/")
                .map_or(file!(), |(_, own)| own),
        )
        .unwrap();
        let all = include_bytes!("lib.rs");
        assert_eq!(file.length(), all.len() as u64);
        let mut buffer = vec![9; 1000];
        for (start, end) in [(0, 0), (0, 4), (100, 300), (5, all.len()), (all.len(), all.len())] {
            let read = file.read(start as u64..end as u64, &mut buffer).unwrap();
            assert_eq!(read, &all[start..end]);
        }
        let end = all.len() as u64;
        for (start, end) in [
            (0, end + 1),
            (end, end + 1),
            (3, 2),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(file.read_at(start..end, &mut buffer), Err(ReadFault));
        }
    }
}

//! A file that is looked at.

use event_seal_core::verify::{ReadAt, ReadFault};
use event_seal_files::File;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// More is never read at once: a line or a container that claims to be longer must not take the memory of a machine.
const LARGEST: u64 = 1 << 30;

/// A file, how much of it was read, and whether that failed.
pub struct Opened {
    file: File,
    read: AtomicU64,
    failed: OnceLock<io::Error>,
}

impl Opened {
    /// Opens a file; what cannot be read at any place, a pipe say, is refused.
    pub fn open(path: &Path) -> io::Result<Opened> {
        let kind = fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::Error::other("not a file of which any part can be read"));
        }
        Ok(Opened {
            file: File::open(path)?,
            read: AtomicU64::new(0),
            failed: OnceLock::new(),
        })
    }

    /// What the file begins with, at most so many bytes.
    pub fn beginning(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.file.read(0..self.length().min(most), &mut buffer)?;
        Ok(buffer)
    }

    /// How many bytes were read so far. Some are read twice.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Why something could not be read.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failed.get()
    }

    fn read(&self, range: Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start);
        if length > LARGEST {
            let what = format!("{length} bytes in one piece, more than the {LARGEST} that are read at once");
            return Err(io::Error::new(ErrorKind::FileTooLarge, what));
        }
        self.file.read(range, buffer)?;
        self.read.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

impl ReadAt for Opened {
    fn length(&self) -> u64 {
        self.file.length()
    }

    fn read_at<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        match self.read(range, buffer) {
            Ok(()) => Ok(buffer),
            Err(error) => {
                // The first is as good as any.
                let _ = self.failed.set(error);
                Err(ReadFault)
            }
        }
    }
}

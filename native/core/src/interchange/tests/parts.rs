//! A file that is read in parts is read as a whole.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::verify::{ReadAt, ReadFault, Verdict};

/// Read so many bytes, and verified so many containers at once.
fn by(file: &[u8], chunk: u64, window: usize) -> (Option<u64>, Verdict) {
    let reading = Reading::by(file, chunk, &Unwatched);
    (reading.broken_line(), reading.verify_by(window, &Unwatched, 100))
}

#[test]
fn parts_of_any_size_make_the_same_file() {
    let mut files: Vec<Vec<u8>> = vectors().into_iter().map(|(_, file)| file).collect();
    let open = open();
    let text = open.join("\n");
    for (i, line) in open.iter().enumerate() {
        files.push(text.replacen(line, "", 1).into_bytes());
        files.push(text.replacen("\"late\":false", "\"late\":true", i).into_bytes());
        for (at, value) in line.match_indices("\":").map(|(at, _)| (at + 2, &line[at + 2..])) {
            let other = if value.starts_with('"') { "\"7" } else { "7" };
            let changed = format!("{}{other}{}", &line[..at], &value[other.len()..]);
            files.push(text.replacen(line, &changed, 1).into_bytes());
        }
    }
    files.extend(["", "\n", "\n\n"].map(|text| text.as_bytes().to_vec()));
    files.push(text.into_bytes());
    for file in files {
        let whole = by(&file, 1 << 20, 100);
        for (chunk, window) in [
            (1, 1),
            (63, 2),
            (900, 3),
            (file.len() as u64, 4),
            (file.len() as u64 + 1, 1),
        ] {
            assert_eq!(by(&file, chunk.max(1), window), whole);
        }
    }
}

/// A file that becomes another when it has been read so often.
struct Changing<'a>(&'a [u8], &'a [u8], usize, AtomicUsize);

impl ReadAt for Changing<'_> {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at<'a>(&'a self, range: Range<u64>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        let reads = self.3.fetch_add(1, Ordering::Relaxed);
        let now = if reads < self.2 { self.0 } else { self.1 };
        now.read_at(range, buffer)
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_never_verified() {
    let honest = open().join("\n").into_bytes();
    let text = String::from_utf8(honest.clone()).unwrap();
    let swapped = {
        let mut lines = open();
        lines.swap(2, 3);
        lines.join("\n").into_bytes()
    };
    let edited = text.replace("\"revision\":0", "\"revision\":1").into_bytes();
    let blank = vec![b'\n'; honest.len()];
    let gone = Vec::new();
    for other in [&swapped, &edited, &blank, &gone] {
        // From the beginning, or once its lines were read in their order.
        for reads in [0, 1] {
            let file = Changing(&honest, other, reads, AtomicUsize::new(0));
            assert!(verify_file(&file, &Unwatched, 9).fault_count > 0, "{reads}");
        }
        let file = Changing(&honest, other, 99, AtomicUsize::new(0));
        assert_eq!(verify_file(&file, &Unwatched, 9).fault_count, 0);
    }
}

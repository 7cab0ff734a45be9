//! Packed containers, one behind the other: a part of one flow. FORMAT.md, "Packed container".

use super::{Checked, Claim, Kind, MAX_FAULTS, Signature};
use crate::opened::Opened;
use crate::show::Printer;
use event_seal_core::block::Container;
use event_seal_core::verify::{
    Edge, ReadAt, ReadFault, Run, Source, Unwatched, Verdict, verify as verify_runs,
};
use std::io;
use std::ops::Range;

pub const KIND: Kind = Kind {
    name: "container",
    allowed: "packed containers, which begin with EVSEALB1 or EVSEALT1",
    claims,
    passes: 1,
    verify,
    show,
};

/// So many containers are verified before the next are looked for: what is kept of each is as long as a small one.
const WINDOW: usize = 4096;

/// From the start to the end of the two lengths.
const LENGTHS: u64 = 24;
/// What no length can be: enough to say that it is no container.
const STUMP: u64 = 32;

fn claims(beginning: &[u8]) -> Option<Claim> {
    let (kind, version) = beginning
        .strip_prefix(b"EVSEAL")?
        .split_at_checked(2)?
        .0
        .split_at(1);
    match (kind, version) {
        (b"B" | b"T", b"1") => Some(Claim::Known),
        (b"B" | b"T", version) => Some(Claim::OtherVersion(version.escape_ascii().to_string())),
        _ => None,
    }
}

fn verify(file: &Opened) -> Checked {
    verify_by(file, WINDOW)
}

fn verify_by(file: &Opened, window: usize) -> Checked {
    let (mut flow, mut verdict) = (None, Verdict::default());
    for pieces in windows(file, window) {
        let flow = flow.get_or_insert_with(|| pieces.flow());
        let run = run(flow, verdict.edges.pop().flatten(), pieces.len());
        let next = verify_runs(&pieces, &[run], &Unwatched, MAX_FAULTS);
        verdict.append(next, MAX_FAULTS);
    }
    Checked {
        flow: flow.unwrap_or_default(),
        verdict,
        part: true,
        signature: Signature::None,
        broken_line: None,
    }
}

/// What stands before and behind is not there, and nothing is said of it.
fn run(flow: &str, from: Option<Edge>, count: usize) -> Run {
    Run {
        from,
        more: true,
        alone: true,
        ..Run::whole(flow, 0..count)
    }
}

fn show(file: &Opened, printer: &mut Printer<'_>) -> io::Result<()> {
    windows(file, WINDOW).try_for_each(|pieces| printer.containers(&pieces))
}

/// Some of a file's containers.
struct Pieces<'f> {
    file: &'f Opened,
    ranges: Vec<Range<u64>>,
}

impl Source for Pieces<'_> {
    fn len(&self) -> usize {
        self.ranges.len()
    }

    fn size(&self, index: usize) -> usize {
        self.ranges
            .get(index)
            .map_or(0, |range| (range.end - range.start) as usize)
    }

    fn read<'a>(&'a self, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        self.file
            .read_at(self.ranges.get(index).cloned().ok_or(ReadFault)?, buffer)
    }
}

impl Pieces<'_> {
    /// The flow of the first container that says one.
    fn flow(&self) -> String {
        let mut buffer = Vec::new();
        let mut flow = |index| {
            let container = Container::decode(self.read(index, &mut buffer).ok()?).ok()?;
            Some(container.flow().to_owned())
        };
        (0..self.len()).find_map(&mut flow).unwrap_or_default()
    }
}

fn windows(file: &Opened, window: usize) -> impl Iterator<Item = Pieces<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut ranges = Vec::new();
        while ranges.len() < window && at < file.length() {
            let (range, next) = piece(file, at);
            ranges.push(range);
            at = next;
        }
        (!ranges.is_empty()).then_some(Pieces { file, ranges })
    })
}

/// The container that begins at an offset, and where the next one does. What does not say where it ends is none, and
/// behind it nothing can be found.
fn piece(file: &Opened, at: u64) -> (Range<u64>, u64) {
    let end = file.length();
    let mut buffer = Vec::new();
    let lengths = file
        .read_at(at..end.min(at + LENGTHS), &mut buffer)
        .unwrap_or_default();
    let length = lengths
        .get(16..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    match at.checked_add(length) {
        Some(next) if length > LENGTHS && next <= end => (at..next, next),
        _ => (at..end.min(at + STUMP), end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_seal_core::suite::Suite;
    use event_seal_load::Flow;

    fn faults(bytes: &[u8], window: usize) -> Vec<(u64, &'static str)> {
        let path = std::env::temp_dir().join(format!("event-seal-windows-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let checked = verify_by(&Opened::open(&path).unwrap(), window);
        std::fs::remove_file(&path).unwrap();
        let faults = checked.verdict.faults.iter();
        faults.map(|fault| (fault.position, fault.class.name())).collect()
    }

    #[test]
    fn what_is_found_in_one_window_is_found_in_many() {
        let honest = Flow::new(Suite::Blake3, "patient/1", 9, 5).blocks_of(3).concat();
        for window in 1..4 {
            assert_eq!(faults(&honest, window), []);
        }
        for at in (0..honest.len()).step_by(7) {
            let mut bytes = honest.clone();
            bytes[at] ^= 1;
            let whole = faults(&bytes, 3);
            assert!(!whole.is_empty(), "byte {at}");
            for window in 1..3 {
                let parts = faults(&bytes, window);
                let lost: Vec<_> = whole.iter().filter(|fault| !parts.contains(fault)).collect();
                assert!(
                    lost.is_empty(),
                    "byte {at}, {window} at once: {whole:?}, {parts:?}"
                );
            }
        }
    }
}

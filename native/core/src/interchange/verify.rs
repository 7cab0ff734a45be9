//! Verifying an interchange file, with no store at all.

use std::ops::Range;

use super::reading::{Instead, Pieces, Reading};
use crate::suite::Digest;
use crate::verify::{Control, Datum, Edge, Expect, Fault, FaultClass, ReadAt, Run, Source, Verdict, verify};

/// So many containers are verified at once: what is kept of each until then is as long as a small one.
const WINDOW: usize = 4096;

/// No more faults are kept, whoever asks for more: a file may have as many as it has events.
const KEPT: usize = 100_000;

/// Verifies a file: every value in it is recomputed from what it follows from. A null body counts as not shown.
pub fn verify_file<F: ReadAt + ?Sized>(file: &F, control: &dyn Control, max_faults: usize) -> Verdict {
    Reading::of(file, control).verify(control, max_faults)
}

impl<F: ReadAt + ?Sized> Reading<'_, F> {
    /// Verifies the file: every value in it is recomputed from what it follows from. A null body counts as not shown.
    pub fn verify(&self, control: &dyn Control, max_faults: usize) -> Verdict {
        self.verify_by(WINDOW, control, max_faults)
    }

    pub(super) fn verify_by(&self, window: usize, control: &dyn Control, max_faults: usize) -> Verdict {
        let mut instead = Instead::default();
        let mut verdict = self.verify_with(&instead, window, control);
        // A file has no seams of its own: a false value would drag along what stands beside it. Where the value is named
        // as false already, the verdict with fewer faults is the one that names it alone.
        if let Some((_, genesis)) = self.false_genesis() {
            instead.genesis = Some(genesis);
            let other = self.verify_with(&instead, window, control);
            if other.fault_count < verdict.fault_count {
                verdict = other;
            } else {
                instead.genesis = None;
            }
        }
        instead.hashes = verdict.faults.iter().filter_map(false_hash).collect();
        if !instead.hashes.is_empty() {
            let other = self.verify_with(&instead, window, control);
            if other.fault_count < verdict.fault_count {
                verdict = other;
            }
        }
        verdict.faults.truncate(max_faults);
        verdict
    }

    fn verify_with(&self, instead: &Instead, window: usize, control: &dyn Control) -> Verdict {
        let pieces = Pieces {
            reading: self,
            instead: instead.clone(),
        };
        let (mut verdict, mut end) = (Verdict::default(), 0);
        while (end < pieces.len() || verdict.flows == 0) && !verdict.stopped {
            let next = end..pieces.len().min(end + window);
            end = next.end;
            let run = self.run(next, verdict.edges.pop().flatten(), end < pieces.len());
            // None is left out before they are counted.
            let mut found = verify(&pieces, &[run], control, usize::MAX);
            found.faults.retain(|fault| !self.explains(fault));
            found.fault_count = found.faults.len() as u64;
            verdict.append(found, KEPT);
        }
        let own = verdict.faults.len();
        verdict.faults.extend(self.broken.clone());
        verdict
            .faults
            .extend(self.false_genesis().map(|(recorded, recomputed)| Fault {
                flow: self.flow().to_owned(),
                position: 1,
                block: None,
                class: FaultClass::Genesis,
                recorded: recorded.into(),
                recomputed: recomputed.into(),
            }));
        verdict.fault_count += (verdict.faults.len() - own) as u64;
        verdict.faults.sort_by_key(|fault| (fault.position, fault.class));
        verdict
    }

    fn run(&self, pieces: Range<usize>, from: Option<Edge>, more: bool) -> Run {
        let closed = self.closed().filter(|_| !more);
        Run {
            from,
            expect: Expect {
                closed,
                ..Expect::default()
            },
            more,
            ..Run::whole(self.flow(), pieces)
        }
    }

    /// G as the file records it and as it should be, if they differ.
    fn false_genesis(&self) -> Option<(Digest, Digest)> {
        let header = self.lines.header.as_ref()?;
        let digest = header.genesis.digest();
        (header.digest != digest).then_some((header.digest, digest))
    }

    /// Whether a fault is none of the file's, or is named otherwise.
    fn explains(&self, fault: &Fault) -> bool {
        match fault.class {
            // The file has but one genesis, and no seams.
            FaultClass::Genesis | FaultClass::Seam => true,
            FaultClass::Missing => self.broken.is_some(),
            FaultClass::Id => self.lines.blind_from().is_some_and(|n| fault.position >= n),
            _ => false,
        }
    }
}

fn false_hash(fault: &Fault) -> Option<(u64, Digest)> {
    match (fault.class, fault.recomputed) {
        (FaultClass::EventHash, Datum::Digest(hash)) => Some((fault.position, hash)),
        _ => None,
    }
}

//! Verifying an interchange file, with no store at all.

use super::reading::{Instead, Pieces, Reading};
use crate::suite::Digest;
use crate::verify::{Control, Datum, Expect, Fault, FaultClass, ReadAt, Run, Source, Verdict, verify};

/// Verifies a file: every value in it is recomputed from what it follows from. A null body counts as not shown.
pub fn verify_file<F: ReadAt + ?Sized>(file: &F, control: &dyn Control, max_faults: usize) -> Verdict {
    Reading::of(file, control).verify(control, max_faults)
}

impl<F: ReadAt + ?Sized> Reading<'_, F> {
    /// Verifies the file: every value in it is recomputed from what it follows from. A null body counts as not shown.
    pub fn verify(&self, control: &dyn Control, max_faults: usize) -> Verdict {
        let mut instead = Instead::default();
        let mut verdict = self.verify_with(&instead, control);
        // A file has no seams of its own: a false value would drag along what stands beside it. Where the value is named
        // as false already, the verdict with fewer faults is the one that names it alone.
        if let Some((_, genesis)) = self.false_genesis() {
            instead.genesis = Some(genesis);
            let other = self.verify_with(&instead, control);
            if other.fault_count < verdict.fault_count {
                verdict = other;
            } else {
                instead.genesis = None;
            }
        }
        instead.hashes = verdict.faults.iter().filter_map(false_hash).collect();
        if !instead.hashes.is_empty() {
            let other = self.verify_with(&instead, control);
            if other.fault_count < verdict.fault_count {
                verdict = other;
            }
        }
        verdict.faults.truncate(max_faults);
        verdict
    }

    fn verify_with(&self, instead: &Instead, control: &dyn Control) -> Verdict {
        let pieces = Pieces {
            reading: self,
            instead: instead.clone(),
        };
        let expect = Expect {
            closed: self.closed(),
            ..Expect::default()
        };
        let run = Run {
            expect,
            ..Run::whole(self.flow(), 0..pieces.len())
        };
        // None is left out before they are counted.
        let mut verdict = verify(&pieces, &[run], control, usize::MAX);
        verdict.faults.retain(|fault| !self.explains(fault));
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
        verdict.faults.sort_by_key(|fault| (fault.position, fault.class));
        verdict.fault_count = verdict.faults.len() as u64;
        verdict
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

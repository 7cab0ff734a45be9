//! A block's kept part, cut from where the block lies; frames and bodies are not read.
use std::ops::Range;

use super::{MAGIC, RESERVED, digests_length};
use crate::block::{BLOCK_MAGIC, Header, PREAMBLE, Seams};
use crate::genesis::{FLOW_MAX, Genesis};
use crate::verify::{ReadAt, ReadFault};
use crate::wire::{Malformed, Reader};

/// As much as can stand before the frame lengths: preamble, genesis record, header, seams.
const FRONT_MAX: u64 = (PREAMBLE + (28 + FLOW_MAX).next_multiple_of(64) + 192 + 256) as u64;

/// Why a block's kept part cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutFault {
    /// The bytes cannot be read.
    Read,
    /// They are no block.
    Malformed(Malformed),
}

impl From<ReadFault> for CutFault {
    fn from(_: ReadFault) -> CutFault {
        CutFault::Read
    }
}

impl From<Malformed> for CutFault {
    fn from(malformed: Malformed) -> CutFault {
        CutFault::Malformed(malformed)
    }
}

/// The kept part of the block that lies there, as it is recorded, right or wrong.
pub fn cut<S: ReadAt + ?Sized>(source: &S, range: Range<u64>) -> Result<Vec<u8>, CutFault> {
    let length = range.end.saturating_sub(range.start);
    let mut buffer = Vec::new();
    let front = source.read_at(range.start..range.start + length.min(FRONT_MAX), &mut buffer)?;
    let mut reader = Reader::new(front);
    if reader.array("magic")? != BLOCK_MAGIC {
        return Err(Malformed::new(0, "magic").into());
    }
    let verification = reader.u64("length")?;
    if reader.u64("length")? != length {
        return Err(Malformed::new(16, "length").into());
    }
    reader.zeros(8)?;
    let hash = reader.digest("hash")?;
    let record = Genesis::record_length(front.get(PREAMBLE..).unwrap_or_default())
        .map_err(|malformed| malformed.within(PREAMBLE))?;
    reader.take(record, "genesis")?;
    let digests = digests_length(Header::decode(&mut reader)?.count);
    Seams::decode(&mut reader)?;

    let kept = front.get(PREAMBLE..reader.at()).unwrap_or_default();
    let whole = PREAMBLE + kept.len() + digests;
    let mut out = Vec::with_capacity(whole);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(whole as u64).to_be_bytes());
    out.extend_from_slice(&[0; RESERVED]);
    out.extend_from_slice(hash);
    out.extend_from_slice(kept);
    let from = verification.checked_sub(digests as u64);
    let from = from.filter(|from| *from >= reader.at() as u64 && verification <= length);
    let from = range.start + from.ok_or(Malformed::new(8, "verification length"))?;
    let mut buffer = Vec::new();
    out.extend_from_slice(source.read_at(from..from + digests as u64, &mut buffer)?);
    Ok(out)
}

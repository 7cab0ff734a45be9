//! A damaged block, its digests taken from where they were kept.
use super::{Kept, digests_length};
use crate::block::{BLOCK_MAGIC, PREAMBLE};
use crate::suite::UNIT;
use crate::wire::{Malformed, Reader, padded};

/// The block with what the kept part has of it in its place: only frame lengths, frames and bodies are as they stand.
/// Whether it holds then, verifying it tells.
pub fn mend(kept: &Kept<'_>, block: &[u8]) -> Result<Vec<u8>, Malformed> {
    let count = kept.header.count as usize;
    let lengths_at = PREAMBLE + kept.front.len();
    let mut reader = Reader::new(block);
    reader.take(lengths_at, "front")?;
    let lengths = reader.take(count, "frame lengths")?;
    let frames = lengths
        .iter()
        .map(|units| usize::from(*units) * UNIT)
        .sum::<usize>();
    reader.take(padded(count) - count, "padding")?;
    reader.take(frames, "frames")?;
    let frames_end = reader.at();
    reader.take(digests_length(kept.header.count), "hashes")?;
    let verification = reader.at();

    let mut out = Vec::with_capacity(block.len());
    out.extend_from_slice(BLOCK_MAGIC);
    out.extend_from_slice(&(verification as u64).to_be_bytes());
    out.extend_from_slice(&(block.len() as u64).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(kept.hash);
    out.extend_from_slice(kept.front);
    out.extend_from_slice(block.get(lengths_at..frames_end).unwrap_or_default());
    out.extend_from_slice(kept.back);
    out.extend_from_slice(block.get(verification..).unwrap_or_default());
    Ok(out)
}

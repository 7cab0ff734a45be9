//! Writing a container's bytes, whatever values they record.
use super::{BLOCK_MAGIC, ERASED, HEADER, Header, Kind, PREAMBLE, Seams, TAIL_MAGIC, padded_sum};
use crate::suite::{Digest, UNIT};
use crate::wire::pad;

/// One event as a container records it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its frame.
    pub frame: &'a [u8],
    /// Its event hash.
    pub hash: Digest,
    /// Its id; in a tail its provisional id.
    pub id: Digest,
    /// Its salted body, if it is there.
    pub body: Option<&'a [u8]>,
}

/// All that a container records.
#[derive(Clone, Debug)]
pub struct Packing<'a> {
    /// Block or tail.
    pub kind: Kind,
    /// The genesis record.
    pub genesis_record: &'a [u8],
    /// The header; its `count` is the number of entries.
    pub header: Header,
    /// The block hash; zero in a tail.
    pub hash: Digest,
    /// The seams.
    pub seams: Seams,
    /// The events.
    pub entries: &'a [Entry<'a>],
}

/// The container that records these values, right or wrong: reading and verifying tell. Lengths are the caller's
/// part: whole units of 64 bytes, 2 to 30 for a frame. Where no entry has a body, the bodies are cut off.
pub fn pack(packing: &Packing<'_>) -> Vec<u8> {
    let entries = packing.entries;
    let count = entries.len();
    let frames: usize = entries.iter().map(|entry| entry.frame.len()).sum();
    let runs = padded_sum(&[count, 32 * count, 32 * count]);
    let verification = PREAMBLE + packing.genesis_record.len() + HEADER + 8 * 32 + frames + runs;
    let bodies: usize = entries
        .iter()
        .filter_map(|entry| entry.body)
        .map(<[u8]>::len)
        .sum();
    let total = if bodies == 0 {
        verification
    } else {
        verification + padded_sum(&[4 * count]) + bodies
    };

    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(if packing.kind == Kind::Block {
        BLOCK_MAGIC
    } else {
        TAIL_MAGIC
    });
    out.extend_from_slice(&(verification as u64).to_be_bytes());
    out.extend_from_slice(&(total as u64).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&packing.hash);
    out.extend_from_slice(packing.genesis_record);
    out.extend_from_slice(&packing.header.encode());
    packing
        .seams
        .all()
        .for_each(|digest| out.extend_from_slice(digest));
    out.extend(entries.iter().map(|entry| (entry.frame.len() / UNIT) as u8));
    pad(&mut out, 0);
    entries
        .iter()
        .for_each(|entry| out.extend_from_slice(entry.frame));
    entries
        .iter()
        .for_each(|entry| out.extend_from_slice(&entry.hash));
    pad(&mut out, 0);
    entries.iter().for_each(|entry| out.extend_from_slice(&entry.id));
    pad(&mut out, 0);
    if bodies > 0 {
        let units = |entry: &Entry<'_>| (entry.body.map_or(0, <[u8]>::len) / UNIT) as u32 & !ERASED;
        entries
            .iter()
            .for_each(|entry| out.extend_from_slice(&units(entry).to_be_bytes()));
        pad(&mut out, 0);
        entries
            .iter()
            .filter_map(|entry| entry.body)
            .for_each(|body| out.extend_from_slice(body));
    }
    out
}

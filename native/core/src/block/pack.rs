//! Writing a container's bytes, whatever values they record.
use std::ops::DerefMut;

use super::{BLOCK_MAGIC, ERASED, HEADER, Header, Kind, PREAMBLE, Seams, TAIL_MAGIC, padded_sum};
use crate::suite::{Digest, UNIT};
use crate::wire::padded;

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
    pack_in(packing, |length| vec![0; length])
}

/// The same in room of the caller's, of the length that is asked for: each byte of it is written.
pub(super) fn pack_in<R: DerefMut<Target = [u8]>>(packing: &Packing<'_>, room: impl FnOnce(usize) -> R) -> R {
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

    let mut made = room(total);
    let mut out = Out {
        room: &mut made,
        at: 0,
    };
    out.put(if packing.kind == Kind::Block {
        BLOCK_MAGIC
    } else {
        TAIL_MAGIC
    });
    out.put(&(verification as u64).to_be_bytes());
    out.put(&(total as u64).to_be_bytes());
    out.put(&[0; 8]);
    out.put(&packing.hash);
    out.put(packing.genesis_record);
    out.put(&packing.header.encode());
    packing.seams.all().for_each(|digest| out.put(digest));
    let units = |entry: &Entry<'_>| [(entry.frame.len() / UNIT) as u8];
    entries.iter().for_each(|entry| out.put(&units(entry)));
    out.pad();
    entries.iter().for_each(|entry| out.put(entry.frame));
    entries.iter().for_each(|entry| out.put(&entry.hash));
    out.pad();
    entries.iter().for_each(|entry| out.put(&entry.id));
    out.pad();
    if bodies > 0 {
        let units = |entry: &Entry<'_>| (entry.body.map_or(0, <[u8]>::len) / UNIT) as u32 & !ERASED;
        entries
            .iter()
            .for_each(|entry| out.put(&units(entry).to_be_bytes()));
        out.pad();
        entries
            .iter()
            .filter_map(|entry| entry.body)
            .for_each(|body| out.put(body));
    }
    made
}

/// Bytes that are written one part after the other.
struct Out<'r> {
    room: &'r mut [u8],
    at: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let room = self.next(bytes.len());
        if room.len() == bytes.len() {
            room.copy_from_slice(bytes);
        }
    }

    /// Zero bytes up to a whole number of units.
    fn pad(&mut self) {
        self.next(padded(self.at) - self.at).fill(0);
    }

    fn next(&mut self, length: usize) -> &mut [u8] {
        let start = self.at;
        self.at += length;
        self.room.get_mut(start..self.at).unwrap_or_default()
    }
}

//! What a verification store keeps of a block: its digests, without frames and bodies. FORMAT.md, "Kept part".
use crate::block::{Header, PREAMBLE, Seams};
use crate::genesis::{Genesis, Record};
use crate::suite::Digest;
use crate::wire::{Malformed, Reader, padded};

mod compare;
mod cut;
mod flaw;
mod mend;

pub use compare::{Difference, Side, compare};
pub use cut::{CutFault, cut};
pub use flaw::{Flaw, Place};
pub use mend::mend;

const MAGIC: &[u8; 8] = b"EVSEALV1";
const RESERVED: usize = 16;

/// The kept part of a block, read strictly and without copying.
#[derive(Debug)]
pub struct Kept<'a> {
    hash: &'a Digest,
    genesis_record: &'a [u8],
    genesis: Record<'a>,
    header: Header,
    seams: Seams,
    hashes: &'a [Digest],
    ids: &'a [Digest],
    /// Genesis record, header and seams, as they stand.
    front: &'a [u8],
    /// Event hashes and ids, as they stand.
    back: &'a [u8],
}

impl<'a> Kept<'a> {
    /// Reads a kept part.
    pub fn decode(bytes: &'a [u8]) -> Result<Kept<'a>, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.array("magic")? != MAGIC {
            return Err(Malformed::new(0, "magic"));
        }
        if reader.u64("length")? != bytes.len() as u64 {
            return Err(Malformed::new(8, "length"));
        }
        reader.zeros(RESERVED)?;
        let hash = reader.digest("hash")?;
        let length = Genesis::record_length(bytes.get(PREAMBLE..).unwrap_or_default())
            .map_err(|malformed| malformed.within(PREAMBLE))?;
        let genesis_record = reader.take(length, "genesis")?;
        let genesis = Record::decode(genesis_record).map_err(|malformed| malformed.within(PREAMBLE))?;
        let header_at = reader.at();
        let header = Header::decode(&mut reader)?;
        if header.suite != genesis.suite {
            return Err(Malformed::new(header_at + 1, "suite"));
        }
        let seams = Seams::decode(&mut reader)?;
        let back_at = reader.at();
        let hashes = reader.digests(header.count as usize, "hashes")?;
        let ids = reader.digests(header.count as usize, "ids")?;
        reader.end()?;
        Ok(Kept {
            hash,
            genesis_record,
            genesis,
            header,
            seams,
            hashes,
            ids,
            front: bytes.get(PREAMBLE..back_at).unwrap_or_default(),
            back: bytes.get(back_at..).unwrap_or_default(),
        })
    }

    /// The block hash as recorded.
    pub fn hash(&self) -> &'a Digest {
        self.hash
    }

    /// The genesis record.
    pub fn genesis_record(&self) -> &'a [u8] {
        self.genesis_record
    }

    /// The flow's id.
    pub fn flow(&self) -> &'a str {
        self.genesis.flow
    }

    /// The header as recorded.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The recorded event hashes.
    pub fn hashes(&self) -> &'a [Digest] {
        self.hashes
    }

    /// The recorded ids.
    pub fn ids(&self) -> &'a [Digest] {
        self.ids
    }

    /// G, of the genesis record.
    fn genesis_digest(&self) -> Digest {
        crate::suite::hash(
            self.genesis.suite,
            crate::suite::Role::Flow,
            &[self.genesis_record],
        )
    }
}

/// How many bytes event hashes and ids of so many events take.
fn digests_length(count: u32) -> usize {
    2 * padded(32 * count as usize)
}

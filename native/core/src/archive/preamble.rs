//! What an archive begins with: all sizes, so that it can be read from the front or by seeking.
use crate::wire::{LIMIT, Malformed, Reader};

/// What every archive of this version begins with.
pub const MAGIC: &[u8; 8] = b"EVSEALA1";
/// How long the preamble is.
pub const PREAMBLE: u64 = 64;
/// Most bytes of a log proof: a note of the greatest length, and a path.
const PROOF_MAX: u64 = (1 << 20) + (1 << 13);
const PART: u8 = 1;
const ZEROS: usize = 31;

/// An archive's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// How many bytes the containers have.
    pub containers: u64,
    /// How many bytes the log proof has; 0 if there is none.
    pub proof: u64,
    /// The height of the block that the log proof is of; 0 if there is none.
    pub height: u64,
    /// It is a part of a flow: of what stands before and behind nothing is said.
    pub part: bool,
}

impl Preamble {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.containers, self.proof, self.height] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(u8::from(self.part) * PART);
        out.resize(PREAMBLE as usize, 0);
        out
    }

    /// Reads them.
    pub fn decode(bytes: &[u8]) -> Result<Preamble, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.array("magic")? != MAGIC {
            return Err(Malformed::new(0, "magic"));
        }
        let preamble = Preamble {
            containers: reader.u64("containers")?,
            proof: reader.u64("proof")?,
            height: reader.counter("height")?,
            part: match reader.u8("flags")? {
                0 => false,
                PART => true,
                _ => return Err(Malformed::new(32, "flags")),
            },
        };
        reader.zeros(ZEROS)?;
        reader.end()?;
        if preamble.containers == 0
            || preamble.containers > LIMIT as u64
            || !preamble.containers.is_multiple_of(64)
        {
            return Err(Malformed::new(8, "containers"));
        }
        if preamble.proof > PROOF_MAX || (preamble.proof == 0 && preamble.height != 0) {
            return Err(Malformed::new(16, "proof"));
        }
        Ok(preamble)
    }

    /// How long the file must be.
    pub fn length(&self) -> Option<u64> {
        PREAMBLE.checked_add(self.containers)?.checked_add(self.proof)
    }
}

//! What the leaves say. FORMAT.md, "Log".
use crate::suite::{Digest, Suite};
use crate::wire::{Malformed, Reader, text};

const BLOCK: u8 = 1;
const TAIL: u8 = 2;
const ERASURE: u8 = 3;
const KEY_CHANGE: u8 = 4;
const DECISION: u8 = 5;

/// Greatest length of a verifier key's text, in bytes.
const KEY_MAX: usize = u16::MAX as usize;

/// A leaf's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// A block was sealed.
    Block {
        /// The flow's suite.
        suite: Suite,
        /// G of the flow.
        genesis: Digest,
        /// The block's height.
        height: u64,
        /// The position of its last event.
        last: u64,
        /// The block hash.
        hash: Digest,
    },
    /// How far a flow was settled at a checkpoint.
    Tail {
        /// The flow's suite.
        suite: Suite,
        /// G of the flow.
        genesis: Digest,
        /// The last settled position.
        n: u64,
        /// Pₙ.
        provisional: Digest,
    },
    /// A body was erased.
    Erasure {
        /// The flow's suite.
        suite: Suite,
        /// G of the flow.
        genesis: Digest,
        /// The event's position.
        n: u64,
        /// When, by the store's clock.
        erased_at: i64,
        /// The commitment to the reason's text.
        reason: Digest,
    },
    /// From here on another key signs.
    KeyChange {
        /// The verifier key that signed so far.
        old: &'a str,
        /// The one that signs from now on.
        new: &'a str,
    },
    /// A fork was healed, or a store restored.
    Decision {
        /// The flow's suite.
        suite: Suite,
        /// G of the flow.
        genesis: Digest,
        /// The last position that is held.
        n: u64,
        /// Pₙ.
        provisional: Digest,
        /// The commitment to the decision's text.
        decision: Digest,
    },
    /// A leaf of a type that this format does not know: hashed like any other, and to be reported.
    Unknown {
        /// Its type.
        kind: u8,
        /// All its data, the type included.
        data: &'a [u8],
    },
}

impl<'a> Leaf<'a> {
    /// The leaf's data. Texts longer than 65,535 bytes do not fit and are the caller's mistake.
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Leaf::Block {
                suite,
                genesis,
                height,
                last,
                hash,
            } => of_flow(
                BLOCK,
                suite,
                &genesis,
                &[&height.to_be_bytes(), &last.to_be_bytes(), &hash],
            ),
            Leaf::Tail {
                suite,
                genesis,
                n,
                provisional,
            } => of_flow(TAIL, suite, &genesis, &[&n.to_be_bytes(), &provisional]),
            Leaf::Erasure {
                suite,
                genesis,
                n,
                erased_at,
                reason,
            } => of_flow(
                ERASURE,
                suite,
                &genesis,
                &[&n.to_be_bytes(), &erased_at.to_be_bytes(), &reason],
            ),
            Leaf::KeyChange { old, new } => {
                let mut out = vec![KEY_CHANGE];
                text(&mut out, old);
                text(&mut out, new);
                out
            }
            Leaf::Decision {
                suite,
                genesis,
                n,
                provisional,
                decision,
            } => of_flow(
                DECISION,
                suite,
                &genesis,
                &[&n.to_be_bytes(), &provisional, &decision],
            ),
            Leaf::Unknown { data, .. } => data.to_vec(),
        }
    }

    /// Reads a leaf's data, strictly.
    pub fn decode(data: &'a [u8]) -> Result<Leaf<'a>, Malformed> {
        let mut reader = Reader::new(data);
        let kind = reader.u8("type")?;
        let leaf = match kind {
            BLOCK => block(&mut reader),
            TAIL => tail(&mut reader),
            ERASURE => erasure(&mut reader),
            KEY_CHANGE => key_change(&mut reader),
            DECISION => decision(&mut reader),
            _ => return Ok(Leaf::Unknown { kind, data }),
        }?;
        reader.end()?;
        Ok(leaf)
    }
}

fn of_flow(kind: u8, suite: Suite, genesis: &Digest, rest: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![kind, suite.as_u8()];
    out.extend_from_slice(genesis);
    rest.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn block<'a>(reader: &mut Reader<'a>) -> Result<Leaf<'a>, Malformed> {
    Ok(Leaf::Block {
        suite: suite(reader)?,
        genesis: *reader.digest("genesis")?,
        height: reader.counter("height")?,
        last: position(reader)?,
        hash: *reader.digest("hash")?,
    })
}

fn tail<'a>(reader: &mut Reader<'a>) -> Result<Leaf<'a>, Malformed> {
    Ok(Leaf::Tail {
        suite: suite(reader)?,
        genesis: *reader.digest("genesis")?,
        n: position(reader)?,
        provisional: *reader.digest("provisional")?,
    })
}

fn erasure<'a>(reader: &mut Reader<'a>) -> Result<Leaf<'a>, Malformed> {
    Ok(Leaf::Erasure {
        suite: suite(reader)?,
        genesis: *reader.digest("genesis")?,
        n: position(reader)?,
        erased_at: reader.time("erased_at")?,
        reason: *reader.digest("reason")?,
    })
}

fn key_change<'a>(reader: &mut Reader<'a>) -> Result<Leaf<'a>, Malformed> {
    Ok(Leaf::KeyChange {
        old: reader.text(1, KEY_MAX, "old key")?,
        new: reader.text(1, KEY_MAX, "new key")?,
    })
}

fn decision<'a>(reader: &mut Reader<'a>) -> Result<Leaf<'a>, Malformed> {
    Ok(Leaf::Decision {
        suite: suite(reader)?,
        genesis: *reader.digest("genesis")?,
        n: position(reader)?,
        provisional: *reader.digest("provisional")?,
        decision: *reader.digest("decision")?,
    })
}

fn suite(reader: &mut Reader<'_>) -> Result<Suite, Malformed> {
    let at = reader.at();
    Suite::from_u8(reader.u8("suite")?).ok_or(Malformed::new(at, "suite"))
}

fn position(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let at = reader.at();
    match reader.counter("position")? {
        0 => Err(Malformed::new(at, "position")),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::LIMIT;

    const G: Digest = [7; 32];
    const TOP: u64 = LIMIT as u64;

    fn one_of_each() -> [Leaf<'static>; 5] {
        let (suite, genesis) = (Suite::Blake3, G);
        let digest = [9; 32];
        [
            Leaf::Block {
                suite,
                genesis,
                height: 0,
                last: TOP,
                hash: digest,
            },
            Leaf::Tail {
                suite,
                genesis,
                n: 1,
                provisional: digest,
            },
            Leaf::Erasure {
                suite: Suite::Sha256,
                genesis,
                n: 3,
                erased_at: -LIMIT,
                reason: digest,
            },
            Leaf::KeyChange {
                old: "clinic.example/log+00000000+AQ==",
                new: "é",
            },
            Leaf::Decision {
                suite,
                genesis,
                n: TOP,
                provisional: digest,
                decision: [1; 32],
            },
        ]
    }

    #[test]
    fn every_leaf_comes_back_and_has_its_own_length() {
        let mut lengths = Vec::new();
        for leaf in one_of_each() {
            let data = leaf.encode();
            assert_eq!(Leaf::decode(&data), Ok(leaf));
            lengths.push(data.len());
        }
        assert_eq!(lengths, [82, 74, 82, 1 + 2 + 32 + 2 + 2, 106]);
    }

    #[test]
    fn a_leaf_of_a_known_type_has_one_length() {
        for leaf in one_of_each() {
            let data = leaf.encode();
            for length in 0..data.len() {
                assert!(Leaf::decode(&data[..length]).is_err(), "{leaf:?} {length}");
            }
            assert!(Leaf::decode(&[&data[..], &[0]].concat()).is_err(), "{leaf:?}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let [block, tail, erasure, key_change, decision] = one_of_each().map(|leaf| leaf.encode());
        for (data, at, bytes, what) in [
            (&block, 1, &[0][..], "suite"),
            (&block, 34, &[0, 0x20], "height"),
            (&block, 42, &[0; 8], "position"),
            (&tail, 1, &[3], "suite"),
            (&tail, 34, &[0; 8], "position"),
            (&tail, 34, &[0, 0x20], "position"),
            (&erasure, 34, &[0; 8], "position"),
            (&erasure, 42, &[0x7f], "erased_at"),
            (&key_change, 3, &[0x0a], "old key"),
            (&key_change, 37, &[0xff], "new key"),
            (&decision, 34, &[0; 8], "position"),
        ] {
            let mut wrong = data.clone();
            wrong[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(Leaf::decode(&wrong).unwrap_err().what, what, "{at}");
        }
        assert_eq!(Leaf::decode(&[4, 0, 0, 0, 1, b'k']).unwrap_err().what, "old key");
    }

    #[test]
    fn a_leaf_of_another_type_is_kept_as_it_is() {
        for kind in [0, 6, 0xff] {
            let data = [kind, 1, 2, 3];
            let leaf = Leaf::decode(&data).unwrap();
            assert_eq!(leaf, Leaf::Unknown { kind, data: &data });
            assert_eq!(leaf.encode(), data);
        }
        assert_eq!(Leaf::decode(&[]).unwrap_err().what, "type");
    }
}

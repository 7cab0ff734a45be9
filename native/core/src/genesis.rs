//! The record a flow begins with. FORMAT.md, "Genesis".
use crate::event::{Field, Invalid, check_text, check_time};
use crate::suite::{Digest, Role, Suite, hash};
use crate::wire::{Malformed, Reader, pad, padded, text};

/// How many events before and after one an id reaches.
pub const WINDOW: u8 = 3;
/// Greatest length of a flow's id, in bytes.
pub const FLOW_MAX: usize = 512;

/// Where the length of the flow's id stands in the record.
const FLOW_AT: usize = 26;

/// What a flow begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// How the flow is hashed.
    pub suite: Suite,
    /// The store's clock when the flow's first event appeared.
    pub created_at: i64,
    /// 16 random bytes, so that no two flows have the same genesis.
    pub nonce: [u8; 16],
    /// The flow's id.
    pub flow: String,
}

impl Genesis {
    /// A genesis, if flow and time are valid.
    pub fn new(suite: Suite, created_at: i64, nonce: [u8; 16], flow: &str) -> Result<Genesis, Invalid> {
        check_text(Field::Flow, flow, FLOW_MAX)?;
        check_time(Field::CreatedAt, created_at)?;
        Ok(Genesis {
            suite,
            created_at,
            nonce,
            flow: flow.to_owned(),
        })
    }

    /// The genesis record: the hashed input of G.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.suite.as_u8(), WINDOW];
        out.extend_from_slice(&self.created_at.to_be_bytes());
        out.extend_from_slice(&self.nonce);
        text(&mut out, &self.flow);
        pad(&mut out, 0);
        out
    }

    /// Reads a genesis record, strictly.
    pub fn decode(record: &[u8]) -> Result<Genesis, Malformed> {
        let record = Record::decode(record)?;
        Ok(Genesis {
            suite: record.suite,
            created_at: record.created_at,
            nonce: *record.nonce,
            flow: record.flow.to_owned(),
        })
    }

    /// The length of the record that `bytes` begin with.
    pub(crate) fn record_length(bytes: &[u8]) -> Result<usize, Malformed> {
        let mut reader = Reader::new(bytes);
        reader.take(FLOW_AT, "genesis")?;
        let length = usize::from(reader.u16("flow")?);
        Ok(padded(FLOW_AT + 2 + length))
    }

    /// G.
    pub fn digest(&self) -> Digest {
        hash(self.suite, Role::Flow, &[&self.encode()])
    }
}

/// A genesis record, read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub suite: Suite,
    pub created_at: i64,
    pub nonce: &'a [u8; 16],
    pub flow: &'a str,
}

impl<'a> Record<'a> {
    /// Reads a genesis record, strictly.
    pub(crate) fn decode(record: &'a [u8]) -> Result<Record<'a>, Malformed> {
        let mut reader = Reader::new(record);
        let suite = Suite::from_u8(reader.u8("suite")?).ok_or(Malformed::new(0, "suite"))?;
        if reader.u8("window")? != WINDOW {
            return Err(Malformed::new(1, "window"));
        }
        let created_at = reader.time("created_at")?;
        let nonce = reader.array("nonce")?;
        let flow = reader.text(1, FLOW_MAX, "flow")?;
        reader.zeros_to_unit(0)?;
        reader.end()?;
        Ok(Record {
            suite,
            created_at,
            nonce,
            flow,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::LIMIT;

    #[test]
    fn records_come_back_at_every_edge_of_length_and_time() {
        for length in [1, 35, 36, 37, 99, 100, 101, 511, 512] {
            for created_at in [-LIMIT, -1, 0, LIMIT] {
                let genesis = Genesis::new(Suite::Blake3, created_at, [5; 16], &"f".repeat(length)).unwrap();
                let record = genesis.encode();
                assert_eq!(record.len(), (28 + length).next_multiple_of(64));
                assert_eq!(Genesis::record_length(&record), Ok(record.len()));
                assert_eq!(Genesis::decode(&record), Ok(genesis));
                assert!(Genesis::decode(&record[..record.len() - 1]).is_err());
            }
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let new = |at, flow: &str| Genesis::new(Suite::Sha256, at, [0; 16], flow).map_err(|e| e.rule.name());
        assert_eq!(new(0, ""), Err("empty"));
        assert_eq!(new(0, &"f".repeat(513)), Err("too_long"));
        assert_eq!(new(0, "a\nb"), Err("control"));
        assert_eq!(new(LIMIT + 1, "f"), Err("range"));
        let record = new(0, "f").unwrap().encode();
        for (at, byte, what) in [
            (0, 0, "suite"),
            (0, 3, "suite"),
            (1, 2, "window"),
            (2, 0x7f, "created_at"),
            (28, 7, "flow"),
            (63, 1, "padding"),
        ] {
            let mut wrong = record.clone();
            wrong[at] = byte;
            assert_eq!(Genesis::decode(&wrong).unwrap_err().what, what);
        }
    }
}

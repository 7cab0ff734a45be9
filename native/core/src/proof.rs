//! The proof of one event, in one text file that whoever has the log's key can check. FORMAT.md, "Event proof".
//!
//! [`make`] writes it from a sealed block; [`verify`] recomputes everything from the event up to the log's root.
use crate::block::Header;
use crate::event::{Event, commitment, salted_body};
use crate::genesis::Genesis;
use crate::suite::{Digest, Suite};

mod make;
mod recompute;
mod text;
pub mod tlog;
mod verify;

pub use make::{Logged, MakeError, make};
pub use recompute::Digests;
pub use verify::{Proven, Refused, verify};

/// What a proof says. None of it is worth anything before it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// What the flow begins with.
    pub genesis: Genesis,
    /// The event's position.
    pub n: u64,
    /// The event. Its commitment is that of `content`.
    pub event: Event<'a>,
    /// Its body, or what stands for it.
    pub content: Content,
    /// The header of its block, without what is recomputed: G and root are zero, and so is `previous` at height 0.
    pub header: Header,
    /// The ids before it that exist, oldest first: three at most.
    pub ids_before: Vec<Digest>,
    /// The event hashes after it that exist: three at most.
    pub hashes_after: Vec<Digest>,
    /// The way from its id to the block's root.
    pub path: Vec<Digest>,
    /// The way from the block to the log's root, and the checkpoint.
    pub logged: tlog::Proof<'a>,
}

/// What a proof shows of a body.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Salt and body.
    Shown {
        /// 16 random bytes.
        salt: [u8; 16],
        /// The body.
        body: Vec<u8>,
    },
    /// The body is not shown; this is its commitment.
    NotShown(Digest),
}

impl Content {
    fn commitment(&self, suite: Suite) -> Digest {
        match self {
            Content::Shown { salt, body } => commitment(suite, &salted_body(salt, body)),
            Content::NotShown(commitment) => *commitment,
        }
    }
}

/// A body is a patient's: it does not stand in messages.
impl std::fmt::Debug for Content {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Content::Shown { .. } => "Shown(..)",
            Content::NotShown(_) => "NotShown(..)",
        })
    }
}

/// How many ids before position n exist, of the three that its id is made of.
fn count_before(n: u64) -> u64 {
    n.saturating_sub(1).min(3)
}

/// How many event hashes after position n exist, of the three that its id is made of.
fn count_after(n: u64, header: &Header) -> u64 {
    if header.closes {
        header.last().saturating_sub(n).min(3)
    } else {
        3
    }
}

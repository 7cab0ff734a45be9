//! Receipts: what a store promises of events that it has taken on, with one signature for all of a commit. FORMAT.md,
//! "Receipts".
//!
//! A [`Group`] is signed by the store, [`verify`] is for who holds a receipt, and [`kept`] tells from a proof of the event
//! whether the promise was kept.
use crate::event::{Event, FLAGS_AT};
use crate::log::leaf_hash;
use crate::suite::{Digest, Role, Suite, hash};
use crate::wire::{LIMIT, Malformed};

mod group;
mod kept;
mod text;
mod verify;

pub use group::{Group, SignError, may_sign};
pub use kept::{Outcome, kept};
pub use text::Receipt;
pub use verify::{Held, Refused, verify};

/// What is promised of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// How the flow is hashed.
    pub suite: Suite,
    /// G of the flow.
    pub genesis: Digest,
    /// The event's name.
    pub euid: [u8; 16],
    /// How often it was amended so far.
    pub revision: u16,
    /// The store's clock when it appeared.
    pub recorded_at: i64,
    /// Salted hash of its body.
    pub commitment: Digest,
    /// Its event hash, as that is if the event is not late: whether it is, only settling tells.
    pub event: Digest,
    /// How the event stood.
    pub standing: Standing,
    /// When the promise is due, by the store's clock.
    pub deadline: i64,
}

/// How an event stands when something is promised of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may still be amended or retracted.
    Pool = 0x50,
    /// It has its position and stays as it is.
    Settled = 0x53,
    /// It was taken out of the pool and never gets a position.
    Retracted = 0x52,
}

impl Standing {
    pub(crate) const ALL: [Standing; 3] = [Standing::Pool, Standing::Settled, Standing::Retracted];

    /// Its name in a receipt.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Pool => "pool",
            Standing::Settled => "settled",
            Standing::Retracted => "retracted",
        }
    }

    /// The standing of a name.
    pub fn from_name(name: &str) -> Option<Standing> {
        Standing::ALL.into_iter().find(|standing| standing.name() == name)
    }
}

impl Promise {
    /// The promise about the event of a frame.
    pub fn of(
        suite: Suite,
        genesis: Digest,
        frame: &[u8],
        standing: Standing,
        deadline: i64,
    ) -> Result<Promise, Malformed> {
        let event = Event::decode(frame)?;
        let promise = Promise {
            suite,
            genesis,
            euid: event.euid,
            revision: event.revision,
            recorded_at: event.recorded_at,
            commitment: event.commitment,
            event: appeared(suite, frame),
            standing,
            deadline,
        };
        promise.check().map(|()| promise)
    }

    /// What is hashed into the tree.
    pub fn leaf(&self) -> Vec<u8> {
        [
            &[self.standing as u8, self.suite.as_u8()][..],
            &self.genesis,
            &self.euid,
            &self.revision.to_be_bytes(),
            &self.recorded_at.to_be_bytes(),
            &self.commitment,
            &self.event,
            &self.deadline.to_be_bytes(),
        ]
        .concat()
    }

    fn leaf_hash(&self) -> Digest {
        leaf_hash(&self.leaf())
    }

    fn check(&self) -> Result<(), Malformed> {
        let fail = |what| Err(Malformed::new(0, what));
        match self {
            Promise { recorded_at, .. } if !(-LIMIT..=LIMIT).contains(recorded_at) => fail("recorded_at"),
            Promise { deadline, .. } if !(self.recorded_at..=LIMIT).contains(deadline) => fail("deadline"),
            _ => Ok(()),
        }
    }
}

/// The event hash of a frame as it was before it was known whether the event is late.
fn appeared(suite: Suite, frame: &[u8]) -> Digest {
    let mut frame = frame.to_vec();
    frame
        .iter_mut()
        .skip(FLAGS_AT)
        .take(1)
        .for_each(|flags| *flags = 0);
    hash(suite, Role::Event, &[&frame])
}

/// What is signed: how many promises there are, and the root over them. No checkpoint's text and no cosignature's can be
/// this one: the second line of theirs is a number, or a time.
fn signed_text(count: u32, root: &Digest) -> String {
    let root = crate::wire::text::to_hex(root);
    format!("event-seal/1 receipts\ncount {count}\nroot {root}\n")
}

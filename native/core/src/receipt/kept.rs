//! Whether a promise was kept. FORMAT.md, "Receipts".
use super::{Promise, Standing, appeared};
use crate::event::Event;
use crate::proof::Proven;

/// What a proof of the event says of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event stands in its flow as it was promised.
    Kept,
    /// It stands there as it was amended later, which the promise left open.
    Amended,
    /// What was promised and what was logged contradict each other: in which field, or that the event was retracted.
    Broken(&'static str),
}

/// What a proof says of a promise; nothing if it is of another event.
pub fn kept(promise: &Promise, proven: &Proven<'_>) -> Option<Outcome> {
    let event = &proven.proof.event;
    let same = promise.genesis == proven.digests.genesis && promise.euid == event.euid;
    same.then(|| outcome(promise, event))
}

fn outcome(promise: &Promise, event: &Event<'_>) -> Outcome {
    let later = event.revision > promise.revision;
    let may_change = promise.standing == Standing::Pool;
    if promise.standing == Standing::Retracted {
        Outcome::Broken("retracted")
    } else if event.recorded_at != promise.recorded_at {
        Outcome::Broken("recorded_at")
    } else if event.revision < promise.revision || (later && !may_change) {
        Outcome::Broken("revision")
    } else if later {
        Outcome::Amended
    } else if event.commitment != promise.commitment {
        Outcome::Broken("commitment")
    } else if !is_promised(promise, event) {
        Outcome::Broken("event")
    } else {
        Outcome::Kept
    }
}

/// Whether every field is as it was when the event appeared, or was amended last.
fn is_promised(promise: &Promise, event: &Event<'_>) -> bool {
    let mut frame = Vec::new();
    let packed = event.encode(&mut frame);
    packed.is_ok() && appeared(promise.suite, &frame) == promise.event
}

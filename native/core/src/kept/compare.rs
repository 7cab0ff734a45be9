//! What two stores say of one block, and which of them is wrong.
use super::{Kept, Place};
use crate::suite::Digest;
use crate::verify::{Datum, FaultClass};
use crate::wire::Malformed;

/// Which store's part does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The events' store's.
    Events,
    /// The verification store's.
    Kept,
    /// Neither holds.
    Both,
    /// Each holds in itself: one was recomputed whole.
    Neither,
}

/// Where two kept parts differ: in the lowest layer that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub class: FaultClass,
    /// The position that it concerns; 0 where nothing can be read.
    pub position: u64,
    /// What the events' store has.
    pub events: Datum,
    /// What the verification store has.
    pub kept: Datum,
    /// Which of them is wrong.
    pub side: Side,
}

type Read<'a> = Result<Kept<'a>, Malformed>;

/// How the part that the events' store's block has differs from the one that was kept.
pub fn compare(events: &[u8], kept: &[u8], place: &Place<'_>) -> Option<Difference> {
    if events == kept {
        return None;
    }
    Some(match (Kept::decode(events), Kept::decode(kept)) {
        (Ok(events), Ok(kept)) => differ(&events, &kept, place),
        (events, kept) => malformed(&events, &kept, place),
    })
}

/// One at least cannot be read.
fn malformed(events: &Read<'_>, kept: &Read<'_>, place: &Place<'_>) -> Difference {
    let at = |read: &Read<'_>| read.as_ref().err().map_or(Datum::None, |fault| fault.at.into());
    let first = |read: &Read<'_>| read.as_ref().ok().map(|part| part.header.first);
    Difference {
        class: FaultClass::Format,
        position: first(events).or(first(kept)).unwrap_or(0),
        events: at(events),
        kept: at(kept),
        side: side(holds(events, place), holds(kept, place)),
    }
}

fn holds(read: &Read<'_>, place: &Place<'_>) -> bool {
    read.as_ref().is_ok_and(|part| part.flaw(place).is_none())
}

fn side(events_hold: bool, kept_holds: bool) -> Side {
    match (events_hold, kept_holds) {
        (false, true) => Side::Events,
        (true, false) => Side::Kept,
        (false, false) => Side::Both,
        (true, true) => Side::Neither,
    }
}

fn differ(events: &Kept<'_>, kept: &Kept<'_>, place: &Place<'_>) -> Difference {
    let side = side(events.flaw(place).is_none(), kept.flaw(place).is_none());
    let (class, position, events, kept) = lowest(events, kept);
    Difference {
        class,
        position,
        events,
        kept,
        side,
    }
}

type Found = (FaultClass, u64, Datum, Datum);

/// What stands lowest: an event's hash is in ids, ids are in the root, and the root is in the block hash.
fn lowest(events: &Kept<'_>, kept: &Kept<'_>) -> Found {
    let (a, b) = (&events.header, &kept.header);
    let first = b.first;
    let of_block =
        |class, events: Datum, kept: Datum| (events != kept).then_some((class, first, events, kept));
    let genesis = (events.genesis_digest(), kept.genesis_digest());
    of_block(FaultClass::Genesis, genesis.0.into(), genesis.1.into())
        .or_else(|| of_block(FaultClass::Genesis, a.genesis.into(), b.genesis.into()))
        .or_else(|| of_block(FaultClass::Height, a.height.into(), b.height.into()))
        .or_else(|| of_block(FaultClass::Position, a.first.into(), b.first.into()))
        .or_else(|| of_block(FaultClass::Position, a.last().into(), b.last().into()))
        .or_else(|| event(FaultClass::EventHash, first, events.hashes, kept.hashes))
        .or_else(|| seam(events, kept))
        .or_else(|| event(FaultClass::Id, first, events.ids, kept.ids))
        .or_else(|| of_block(FaultClass::Root, a.root.into(), b.root.into()))
        .or_else(|| of_block(FaultClass::Epoch, a.epoch.into(), b.epoch.into()))
        .or_else(|| of_block(FaultClass::WhenRange, a.when_min.into(), b.when_min.into()))
        .or_else(|| of_block(FaultClass::WhenRange, a.when_max.into(), b.when_max.into()))
        .or_else(|| of_block(FaultClass::SealedAt, a.sealed_at.into(), b.sealed_at.into()))
        .or_else(|| of_block(FaultClass::Close, a.closes.into(), b.closes.into()))
        .or_else(|| of_block(FaultClass::Previous, a.previous.into(), b.previous.into()))
        .unwrap_or((
            FaultClass::BlockHash,
            first,
            (*events.hash).into(),
            (*kept.hash).into(),
        ))
}

/// Behind the block at the event that is meant, before it at the block's first.
fn seam(events: &Kept<'_>, kept: &Kept<'_>) -> Option<Found> {
    let (first, behind) = (kept.header.first, kept.header.last().saturating_add(1));
    let positions = [first; 5].into_iter().chain(behind..);
    let mut seams = events.seams.all().zip(kept.seams.all()).zip(positions);
    let ((one, other), position) = seams.find(|((one, other), _)| one != other)?;
    Some((FaultClass::Seam, position, (*one).into(), (*other).into()))
}

fn event(class: FaultClass, first: u64, events: &[Digest], kept: &[Digest]) -> Option<Found> {
    let mut each = events.iter().zip(kept).enumerate();
    let (i, (one, other)) = each.find(|(_, (one, other))| one != other)?;
    Some((
        class,
        first.saturating_add(i as u64),
        (*one).into(),
        (*other).into(),
    ))
}

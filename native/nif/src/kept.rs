//! Kept parts of blocks: cut, read, checked, compared, and used to mend a block.

use crate::terms::{binary, datum, malformed, name, ok, refused, suite_atom};
use event_seal_core::kept::{CutFault, Flaw, Kept, Place, Side, compare, cut, mend};
use event_seal_core::verify::{Datum, FaultClass};
use event_seal_files::File;
use rustler::{Atom, Binary, Encoder, Env, NifResult, Term};

mod names {
    rustler::atoms! { io, events, verification, both, either }
}

/// The kept part of the block that lies there: `{:binary, bytes}`, or `{:file, path, offset, length}`.
#[rustler::nif(schedule = "DirtyIo")]
fn kept_cut<'a>(env: Env<'a>, place: Term<'a>) -> NifResult<Term<'a>> {
    let part = if let Ok((_, bytes)) = place.decode::<(Atom, Binary<'a>)>() {
        let bytes = bytes.as_slice();
        cut(bytes, 0..bytes.len() as u64)
    } else {
        let (_, path, offset, length): (Atom, &'a str, u64, u64) = place.decode()?;
        let end = offset.checked_add(length).ok_or(rustler::Error::BadArg)?;
        File::open(path)
            .map_err(|_| CutFault::Read)
            .and_then(|file| cut(&file, offset..end))
    };
    Ok(match part {
        Ok(part) => ok(env, binary(env, &part)),
        Err(CutFault::Read) => refused(env, names::io()),
        Err(CutFault::Malformed(fault)) => malformed(env, &fault),
    })
}

/// `{:ok, {{suite, flow, genesis record, G}, {height, first, count, closes, when_max}, hash, event hashes}}`.
#[rustler::nif]
fn kept_read<'a>(env: Env<'a>, part: Binary<'a>) -> Term<'a> {
    match Kept::decode(part.as_slice()) {
        Ok(kept) => {
            let header = kept.header();
            let (suite, record) = (suite_atom(header.suite), binary(env, kept.genesis_record()));
            let flow = (suite, kept.flow(), record, binary(env, &header.genesis));
            let placed = (
                header.height,
                header.first,
                header.count,
                header.closes,
                header.when_max,
            );
            let hashes = binary(env, kept.hashes().as_flattened());
            ok(env, (flow, placed, binary(env, kept.hash()), hashes))
        }
        Err(fault) => malformed(env, &fault),
    }
}

/// What does not hold in a part at this height behind the part of the block before: `{:ok, nil}` or
/// `{:ok, {class, position, recorded, recomputed}}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn kept_flaw<'a>(env: Env<'a>, part: Binary<'a>, height: u64, before: Option<Binary<'a>>) -> Term<'a> {
    let before = before.and_then(|before| Kept::decode(before.as_slice()).ok());
    let before = before.as_ref();
    let flaw = |flaw: Flaw| row(env, flaw.class, flaw.position, flaw.recorded, flaw.recomputed);
    match Kept::decode(part.as_slice()) {
        Ok(kept) => ok(env, kept.flaw(&Place { height, before }).map(flaw)),
        Err(fault) => malformed(env, &fault),
    }
}

/// How the part that the events' store has differs from the one that was kept: nil, or
/// `{{class, position, events, verification}, side}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn kept_compare<'a>(
    env: Env<'a>,
    events: Binary<'a>,
    kept: Binary<'a>,
    height: u64,
    before: Option<Binary<'a>>,
) -> Term<'a> {
    let before = before.and_then(|before| Kept::decode(before.as_slice()).ok());
    let before = before.as_ref();
    let found = compare(events.as_slice(), kept.as_slice(), &Place { height, before });
    let found = found.map(|found| {
        let row = row(env, found.class, found.position, found.events, found.kept);
        (row, side(found.side))
    });
    found.encode(env)
}

fn side(side: Side) -> Atom {
    match side {
        Side::Events => names::events(),
        Side::Kept => names::verification(),
        Side::Both => names::both(),
        Side::Neither => names::either(),
    }
}

fn row<'a>(env: Env<'a>, class: FaultClass, position: u64, one: Datum, other: Datum) -> Term<'a> {
    (
        name(env, class.name()),
        position,
        datum(env, &one),
        datum(env, &other),
    )
        .encode(env)
}

/// The block with what the part has of it in its place.
#[rustler::nif(schedule = "DirtyCpu")]
fn kept_mend<'a>(env: Env<'a>, part: Binary<'a>, block: Binary<'a>) -> Term<'a> {
    match Kept::decode(part.as_slice()).and_then(|kept| mend(&kept, block.as_slice())) {
        Ok(block) => ok(env, binary(env, &block)),
        Err(fault) => malformed(env, &fault),
    }
}

//! Kept parts of blocks: cut, read, checked, compared, and used to mend a block.

use crate::list::List;
use crate::terms::{binary, datum, malformed, name, ok, refused, suite_atom};
use event_seal_core::kept::{self, CutFault, Flaw, Kept, Side, compare, cut, mend};
use event_seal_core::verify::{Datum, FaultClass};
use event_seal_files::File;
use rustler::{Atom, Binary, Decoder, Encoder, Env, NifResult, Term};
use std::ops::Range;

mod names {
    rustler::atoms! { io, events, verification, both, either }
}

/// Where bytes lie: `{:binary, bytes}`, or `{:file, path, offset, length}`.
enum Place<'a> {
    Bytes(&'a [u8]),
    File(&'a str, Range<u64>),
}

impl<'a> Decoder<'a> for Place<'a> {
    fn decode(term: Term<'a>) -> NifResult<Place<'a>> {
        if let Ok((_, bytes)) = term.decode::<(Atom, Binary<'a>)>() {
            return Ok(Place::Bytes(bytes.as_slice()));
        }
        let (_, path, offset, length): (Atom, &'a str, u64, u64) = term.decode()?;
        let end = offset.checked_add(length).ok_or(rustler::Error::BadArg)?;
        Ok(Place::File(path, offset..end))
    }
}

impl Place<'_> {
    fn cut(&self) -> Result<Vec<u8>, CutFault> {
        match self {
            Place::Bytes(bytes) => cut(*bytes, 0..bytes.len() as u64),
            Place::File(path, range) => {
                let file = File::open(path).map_err(|_| CutFault::Read)?;
                cut(&file, range.clone())
            }
        }
    }

    fn holds(&self, part: &[u8]) -> bool {
        match self {
            Place::Bytes(bytes) => *bytes == part,
            Place::File(path, range) => {
                let mut buffer = Vec::new();
                let length = range.end - range.start;
                let file = File::open(path).ok().filter(|_| length == part.len() as u64);
                file.is_some_and(|file| {
                    file.read(range.clone(), &mut buffer)
                        .is_ok_and(|bytes| bytes == part)
                })
            }
        }
    }
}

/// The kept part of the block that lies there.
#[rustler::nif(schedule = "DirtyIo")]
fn kept_cut<'a>(env: Env<'a>, place: Place<'a>) -> Term<'a> {
    match place.cut() {
        Ok(part) => ok(env, binary(env, &part)),
        Err(CutFault::Read) => refused(env, names::io()),
        Err(CutFault::Malformed(fault)) => malformed(env, &fault),
    }
}

/// Of pairs of places, a block's and a kept part's, whether it is that block's part.
#[rustler::nif(schedule = "DirtyIo")]
fn kept_same<'a>(pairs: List<(Place<'a>, Place<'a>)>) -> Vec<bool> {
    let same = |(block, kept): &(Place<'a>, Place<'a>)| block.cut().is_ok_and(|part| kept.holds(&part));
    pairs.iter().map(same).collect()
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
        Ok(kept) => ok(env, kept.flaw(&kept::Place { height, before }).map(flaw)),
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
    let found = compare(
        events.as_slice(),
        kept.as_slice(),
        &kept::Place { height, before },
    );
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

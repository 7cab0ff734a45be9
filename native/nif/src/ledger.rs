//! The log as a verification holds it against a store: what its leaves bind, and the edge of the tree over them.

use crate::list::List;
use crate::terms::{array, atoms, binary, name};
use crate::verify::{Files, piece};
use event_seal_core::log::{Discord, Frontier, Ledger};
use event_seal_core::suite::Digest;
use event_seal_core::verify::FaultClass;
use rustler::{Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[derive(Default)]
pub struct Learnt {
    pub ledger: Ledger,
    frontier: Frontier,
}

/// Verifications read it from many threads while nothing is learnt.
pub struct Held(RwLock<Learnt>);

#[rustler::resource_impl]
impl Resource for Held {}

impl Held {
    pub fn read(&self) -> RwLockReadGuard<'_, Learnt> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Learnt> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[rustler::nif]
fn ledger() -> ResourceArc<Held> {
    ResourceArc::new(Held(RwLock::default()))
}

/// Takes in the next leaves, each by its data. `{size, root}`; an argument error if they are more than it can hold.
#[rustler::nif(schedule = "DirtyCpu")]
fn ledger_learn<'a>(
    env: Env<'a>,
    held: ResourceArc<Held>,
    leaves: List<Binary>,
) -> NifResult<(u64, Term<'a>)> {
    let mut learnt = held.write();
    let leaves: Vec<&[u8]> = leaves.iter().map(Binary::as_slice).collect();
    let room = leaves.iter().all(|data| learnt.ledger.learn(data)) && learnt.frontier.extend(&leaves).is_ok();
    if !room {
        return Err(rustler::Error::BadArg);
    }
    Ok((learnt.frontier.size(), binary(env, &learnt.frontier.root())))
}

/// All leaves were learnt that the store must meet.
#[rustler::nif(schedule = "DirtyCpu")]
fn ledger_arrange(held: ResourceArc<Held>) -> rustler::Atom {
    held.write().ledger.arrange();
    atoms::ok()
}

/// Up to which position the leaves below `size` bind the flow with this genesis digest: its blocks, and its events.
#[rustler::nif]
fn ledger_reach(held: ResourceArc<Held>, genesis: Binary, size: u64) -> NifResult<(u64, u64)> {
    Ok(held.read().ledger.reach(&array(genesis)?, size))
}

/// What the leaves below `size` say of that flow before a position need not be met.
#[rustler::nif]
fn ledger_pass(held: ResourceArc<Held>, genesis: Binary, size: u64, before: u64) -> NifResult<rustler::Atom> {
    held.read().ledger.pass(&array(genesis)?, size, before);
    Ok(atoms::ok())
}

/// Of flows that are closed, each by where its last block lies and its last position: whether the leaves below `size` end
/// with that block, by its header. What they say of those that do is passed over.
#[rustler::nif(schedule = "DirtyIo")]
fn ledger_pass_ended<'a>(
    held: ResourceArc<Held>,
    flows: List<(Term<'a>, u64)>,
    size: u64,
) -> NifResult<Vec<bool>> {
    let learnt = held.read();
    let (mut files, mut buffer) = (Files::default(), Vec::new());
    let mut ended = Vec::new();
    for (place, last) in flows.iter() {
        let header = piece(*place, &mut files)?.header(&mut buffer);
        let header = header.filter(|header| header.closes && header.last() == *last);
        ended.push(header.is_some_and(|header| {
            let block = (header.height, *last, header.digest());
            learnt.ledger.pass_ended(&header.genesis, size, block)
        }));
    }
    Ok(ended)
}

/// Whether blocks were seen of which no leaf is known.
#[rustler::nif]
fn ledger_has_strays(held: ResourceArc<Held>) -> bool {
    held.read().ledger.has_strays()
}

/// Those of which none was learnt since either, as faults.
#[rustler::nif(schedule = "DirtyCpu")]
fn ledger_strays<'a>(env: Env<'a>, held: ResourceArc<Held>) -> Vec<Term<'a>> {
    let class = name(env, FaultClass::Log.name());
    let strays = held.read().ledger.take_strays();
    strays
        .iter()
        .map(|(stray, said)| {
            let said = digest(env, said.as_ref());
            let hash = binary(env, &stray.hash);
            (&stray.flow, stray.first, stray.height, class, said, hash).encode(env)
        })
        .collect()
}

/// What is left when all flows were looked at: `{unmet, malformed, unknown, covered}`, the last of the leaves below `size`.
#[rustler::nif(schedule = "DirtyCpu")]
fn ledger_rest<'a>(env: Env<'a>, held: ResourceArc<Held>, size: u64) -> Term<'a> {
    let learnt = held.read();
    let ledger = &learnt.ledger;
    let unmet: Vec<Term> = ledger.unmet().iter().map(|one| discord(env, one)).collect();
    (
        unmet,
        ledger.malformed().to_vec(),
        ledger.unknown(),
        ledger.covered(size),
    )
        .encode(env)
}

fn discord<'a>(env: Env<'a>, one: &Discord) -> Term<'a> {
    let (recorded, other) = (binary(env, &one.recorded), digest(env, one.other.as_ref()));
    (one.index, one.position, one.block, recorded, other).encode(env)
}

fn digest<'a>(env: Env<'a>, digest: Option<&Digest>) -> Term<'a> {
    digest.map_or_else(|| atoms::nil().encode(env), |digest| binary(env, digest))
}

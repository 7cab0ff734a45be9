//! Proofs of events: made, and checked.

use crate::log::{self, policy};
use crate::terms::{atoms, binary, digests, malformed, name, ok, refused, suite_atom};
use event_seal_core::block::Container;
use event_seal_core::event::{Event, Where};
use event_seal_core::proof::{Content, Logged, MakeError, Proven, Refused, make, verify};
use rustler::types::tuple::make_tuple;
use rustler::{Binary, Encoder, Env, NifResult, Term};

use crate::list::List;

mod names {
    rustler::atoms! { tail, position, body, block, log, path, root, rule, place, geo, not_shown }
}

/// The proof of the event at position n of a block, with its body or without.
#[rustler::nif(schedule = "DirtyCpu")]
fn proof_make<'a>(
    env: Env<'a>,
    block: Binary<'a>,
    n: u64,
    show: bool,
    logged: (u64, Binary<'a>, &'a str),
) -> NifResult<Term<'a>> {
    let (index, path, checkpoint) = logged;
    let logged = Logged {
        index,
        path: digests(path)?,
        checkpoint,
    };
    let block = match Container::decode(block.as_slice()) {
        Ok(block) => block,
        Err(fault) => return Ok(malformed(env, &fault)),
    };
    Ok(match make(&block, n, show, &logged) {
        Ok(text) => ok(env, text),
        Err(MakeError::Malformed(fault)) => malformed(env, &fault),
        Err(MakeError::Tail) => refused(env, names::tail()),
        Err(MakeError::Position) => refused(env, names::position()),
        Err(MakeError::Body) => refused(env, names::body()),
        Err(MakeError::Block) => refused(env, names::block()),
        Err(MakeError::Log) => refused(env, names::log()),
    })
}

/// What a proof proves under a policy, or why it proves nothing.
#[rustler::nif(schedule = "DirtyCpu")]
fn proof_verify<'a>(
    env: Env<'a>,
    text: Binary<'a>,
    logs: List<&'a str>,
    witnesses: List<&'a str>,
    quorum: usize,
) -> Term<'a> {
    let policy = match policy(env, &logs, &witnesses, quorum) {
        Ok(policy) => policy,
        Err(refused) => return refused,
    };
    match verify(text.as_slice(), &policy) {
        Ok(proven) => ok(env, shown(env, &proven)),
        Err(why) => refusal(env, &why),
    }
}

/// Why a proof proves nothing.
pub fn refusal<'a>(env: Env<'a>, why: &Refused) -> Term<'a> {
    match why {
        Refused::Malformed(fault) => malformed(env, fault),
        Refused::Rule(rule) => (atoms::error(), (names::rule(), name(env, rule))).encode(env),
        Refused::Checkpoint(why) => log::refusal(env, why),
        Refused::LogPath => refused(env, names::path()),
        Refused::Root => refused(env, names::root()),
    }
}

fn shown<'a>(env: Env<'a>, proven: &Proven<'_>) -> Term<'a> {
    let (proof, opened) = (&proven.proof, &proven.opened);
    let content = match &proof.content {
        Content::Shown { salt, body } => (binary(env, salt), binary(env, body)).encode(env),
        Content::NotShown(_) => names::not_shown().encode(env),
    };
    let flow = (
        suite_atom(proof.genesis.suite),
        &proof.genesis.flow,
        proof.genesis.created_at,
    );
    let block = (proof.header.height, proof.logged.index, opened.checkpoint.size);
    let digests = &proven.digests;
    let digests =
        [&digests.genesis, &digests.event, &digests.id, &digests.block].map(|digest| binary(env, digest));
    let cosigned = |one: &event_seal_core::checkpoint::Cosignature| (one.witness.to_string(), one.time);
    let signed: Vec<_> = opened.cosignatures.iter().map(cosigned).collect();
    let of = [
        flow.encode(env),
        proof.n.encode(env),
        event(env, &proof.event),
        content,
        block.encode(env),
        make_tuple(env, &digests),
        (opened.log.to_string(), signed).encode(env),
    ];
    make_tuple(env, &of)
}

fn event<'a>(env: Env<'a>, event: &Event<'_>) -> Term<'a> {
    let place = match event.place {
        Where::Nowhere => atoms::nil().encode(env),
        Where::Place(place) => place.encode(env),
        Where::Geo { lat, lon } => (lat, lon).encode(env),
    };
    let times = (event.when, event.recorded_at, event.late, event.revision);
    let what = (event.kind, event.version, place, event.who);
    (
        binary(env, &event.euid),
        times,
        what,
        binary(env, &event.commitment),
    )
        .encode(env)
}

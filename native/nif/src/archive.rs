//! Archives: what they are made of, and what they say.

use crate::list::List;
use crate::log::{policy, refusal};
use crate::terms::{atoms, binary, digests, malformed, name, ok, refused};
use event_seal_core::archive::{Archive, Disclose, Preamble, Signed, disclose};
use event_seal_core::block::Container;
use event_seal_core::interchange::Reading;
use event_seal_core::proof::{Refused, tlog};
use event_seal_core::verify::{Source, Unwatched};
use event_seal_files::File;
use rustler::types::tuple::make_tuple;
use rustler::{Binary, Encoder, Env, NifResult, Term};

mod names {
    rustler::atoms! { path, root, rule, io, form }
}

/// The sizes that an archive begins with.
#[rustler::nif]
fn archive_preamble<'a>(env: Env<'a>, containers: u64, proof: u64, height: u64, part: bool) -> Term<'a> {
    let preamble = Preamble {
        containers,
        proof,
        height,
        part,
    };
    binary(env, &preamble.encode())
}

/// `{:ok, {containers, proof, height, part}}`.
#[rustler::nif]
fn archive_sizes<'a>(env: Env<'a>, preamble: Binary<'a>) -> Term<'a> {
    match Preamble::decode(preamble.as_slice()) {
        Ok(sizes) => ok(env, (sizes.containers, sizes.proof, sizes.height, sizes.part)),
        Err(fault) => malformed(env, &fault),
    }
}

/// The container with only the bodies at these positions, which ascend.
#[rustler::nif(schedule = "DirtyCpu")]
fn archive_disclose<'a>(env: Env<'a>, container: Binary<'a>, positions: List<u64>) -> Term<'a> {
    match Container::decode(container.as_slice()) {
        Ok(container) => ok(env, binary(env, &disclose(&container, Disclose::At(&positions)))),
        Err(fault) => malformed(env, &fault),
    }
}

/// The text of a log proof.
#[rustler::nif]
fn log_proof<'a>(index: u64, path: Binary<'a>, checkpoint: &'a str) -> NifResult<String> {
    let path = digests(path)?.to_vec();
    Ok(tlog::Proof {
        index,
        path,
        checkpoint,
    }
    .text())
}

/// What the archive's proof says under a policy, without keys under none: `{:ok, nil}`, or
/// `{:ok, {height, last, index, origin, size, names, {key, [{witness, time}]} | nil}}`.
#[rustler::nif(schedule = "DirtyIo")]
fn archive_signed<'a>(
    env: Env<'a>,
    path: &'a str,
    logs: List<&'a str>,
    witnesses: List<&'a str>,
    quorum: usize,
) -> Term<'a> {
    let Ok(file) = File::open(path) else {
        return refused(env, names::io());
    };
    let policy = match logs.is_empty() {
        true => None,
        false => match policy(env, &logs, &witnesses, quorum) {
            Ok(policy) => Some(policy),
            Err(refused) => return refused,
        },
    };
    let signed = Archive::open(&file)
        .map_err(Refused::from)
        .and_then(|archive| archive.signed(policy.as_ref()));
    match signed {
        Ok(signed) => ok(env, signed.map(|signed| shown(env, &signed))),
        Err(Refused::Malformed(fault)) => malformed(env, &fault),
        Err(Refused::Rule(rule)) => (atoms::error(), (names::rule(), name(env, rule))).encode(env),
        Err(Refused::Checkpoint(why)) => refusal(env, &why),
        Err(Refused::LogPath) => refused(env, names::path()),
        Err(Refused::Root) => refused(env, names::root()),
    }
}

fn shown<'a>(env: Env<'a>, signed: &Signed) -> Term<'a> {
    let by = signed.by.as_ref().map(|by| (&by.log, &by.witnesses));
    let of = [
        signed.height.encode(env),
        signed.last.encode(env),
        signed.index.encode(env),
        signed.origin.encode(env),
        signed.size.encode(env),
        signed.names.encode(env),
        by.encode(env),
    ];
    make_tuple(env, &of)
}

/// The containers that an interchange file's text records.
#[rustler::nif(schedule = "DirtyCpu")]
fn interchange_containers<'a>(env: Env<'a>, text: Binary<'a>) -> Term<'a> {
    let reading = Reading::of(text.as_slice(), &Unwatched);
    if reading.broken().is_some() {
        return refused(env, names::form());
    }
    let pieces = reading.pieces();
    let mut buffer = Vec::new();
    let mut containers = Vec::with_capacity(pieces.len());
    for index in 0..pieces.len() {
        match pieces.read(index, &mut buffer) {
            Ok(bytes) => containers.push(binary(env, bytes)),
            Err(_) => return refused(env, names::form()),
        }
    }
    ok(env, containers)
}

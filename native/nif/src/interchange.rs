//! `EventSeal.Interchange` and the import form.

use crate::list::List;
use crate::terms::{atoms, binary, malformed, name, ok};
use event_seal_core::block::Container;
use event_seal_core::event::Where;
use event_seal_core::genesis::Genesis;
use event_seal_core::import::{ImportError, Imported, parse_line};
use event_seal_core::interchange::{header_line, lines};
use rustler::types::tuple::make_tuple;
use rustler::{Binary, Encoder, Env, Term};

/// The first line of a flow's file.
#[rustler::nif]
fn interchange_header<'a>(env: Env<'a>, genesis: Binary, closed: bool) -> Term<'a> {
    match Genesis::decode(genesis.as_slice()) {
        Ok(genesis) => ok(env, header_line(&genesis, closed)),
        Err(fault) => malformed(env, &fault),
    }
}

fn container_lines<'a>(env: Env<'a>, container: Binary) -> Term<'a> {
    let mut out = Vec::new();
    match Container::decode(container.as_slice()).and_then(|container| lines(&container, &mut out)) {
        Ok(()) => ok(env, binary(env, &out)),
        Err(fault) => malformed(env, &fault),
    }
}

#[rustler::nif]
fn interchange_lines_here<'a>(env: Env<'a>, container: Binary) -> Term<'a> {
    container_lines(env, container)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn interchange_lines_dirty<'a>(env: Env<'a>, container: Binary) -> Term<'a> {
    container_lines(env, container)
}

/// For each line `{:ok, {flow, draft}}` or `{:error, {key | nil, rule}}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn import_lines<'a>(env: Env<'a>, lines: List<Binary>) -> Vec<Term<'a>> {
    let line = |line: &Binary| match parse_line(line.as_slice()) {
        Ok(imported) => ok(env, (imported.flow.as_ref(), draft(env, &imported))),
        Err(fault) => (atoms::error(), refusal(env, &fault)).encode(env),
    };
    lines.iter().map(line).collect()
}

fn refusal<'a>(env: Env<'a>, fault: &ImportError) -> Term<'a> {
    let key = fault.key.map(|key| name(env, key.name()));
    let found = fault
        .found
        .map_or(String::new(), |found| format!(", got {}", found.text()));
    (key, format!("{}{found}", fault.rule.text())).encode(env)
}

/// The event as `EventSeal.Event.draft/2` would leave it.
fn draft<'a>(env: Env<'a>, imported: &Imported) -> Term<'a> {
    let place = match imported.place() {
        Where::Nowhere => atoms::nil().encode(env),
        Where::Place(place) => place.encode(env),
        Where::Geo { lat, lon } => (lat, lon).encode(env),
    };
    let fields = [
        imported.euid.map(|euid| binary(env, &euid)).encode(env),
        imported.when.encode(env),
        atoms::nil().encode(env),
        0.encode(env),
        imported.kind.as_ref().encode(env),
        imported.version.encode(env),
        place,
        imported.who.as_deref().encode(env),
        atoms::nil().encode(env),
        binary(env, imported.body.as_bytes()),
    ];
    make_tuple(env, &fields)
}

//! How the core's values look to the BEAM: atoms, digests, tagged errors.

use event_seal_core::Malformed;
use event_seal_core::event::Invalid;
use event_seal_core::suite::{Digest, Suite};
use event_seal_core::verify::Datum;
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, Term};

pub mod atoms {
    rustler::atoms! {
        ok, error, nil, malformed, invalid, refused, corrupt,
        closed, full, recorded_at, close, count, seams, range, genesis, block, entry, missing,
        sha256, blake3, keyed, derive_key,
        fixed, sandbox, done, failed, cancelled, badarg, panicked, binary, file,
        events, bytes,
    }
}

/// A binary on the caller's heap, or reference-counted when it is large.
pub fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

/// Parts, one after the other, as one binary.
pub fn joined<'a, 'b>(env: Env<'a>, parts: impl Iterator<Item = &'b [u8]> + Clone) -> Term<'a> {
    let mut binary = NewBinary::new(env, parts.clone().map(<[u8]>::len).sum());
    let mut left = binary.as_mut_slice();
    for part in parts {
        let (own, rest) = left.split_at_mut(part.len());
        own.copy_from_slice(part);
        left = rest;
    }
    binary.into()
}

/// A suite by its atom.
pub fn suite(atom: Atom) -> NifResult<Suite> {
    if atom == atoms::sha256() {
        Ok(Suite::Sha256)
    } else if atom == atoms::blake3() {
        Ok(Suite::Blake3)
    } else {
        Err(rustler::Error::BadArg)
    }
}

/// A suite's atom.
pub fn suite_atom(suite: Suite) -> Atom {
    match suite {
        Suite::Sha256 => atoms::sha256(),
        Suite::Blake3 => atoms::blake3(),
    }
}

/// `N` bytes.
pub fn array<const N: usize>(binary: Binary) -> NifResult<[u8; N]> {
    binary.as_slice().try_into().map_err(|_| rustler::Error::BadArg)
}

/// Digests, one after the other.
pub fn digests<'a>(binary: Binary<'a>) -> NifResult<&'a [Digest]> {
    match binary.as_slice().as_chunks() {
        (digests, []) => Ok(digests),
        _ => Err(rustler::Error::BadArg),
    }
}

/// What a fault shows: a digest, an integer, or nil.
pub fn datum<'a>(env: Env<'a>, datum: &Datum) -> Term<'a> {
    match datum {
        Datum::None => atoms::nil().encode(env),
        Datum::Digest(digest) => binary(env, digest),
        Datum::Integer(integer) => integer.encode(env),
    }
}

/// `{:ok, value}`.
pub fn ok<'a>(env: Env<'a>, value: impl Encoder) -> Term<'a> {
    (atoms::ok(), value).encode(env)
}

/// `{:error, {:malformed, at, what}}`: bytes that are not of format 1.
pub fn malformed<'a>(env: Env<'a>, fault: &Malformed) -> Term<'a> {
    (atoms::error(), (atoms::malformed(), fault.at, fault.what)).encode(env)
}

/// `{:error, {:invalid, field, rule}}`: a value that may not enter a chain.
pub fn invalid<'a>(env: Env<'a>, fault: &Invalid) -> Term<'a> {
    (
        atoms::error(),
        (
            atoms::invalid(),
            name(env, fault.field.name()),
            name(env, fault.rule.name()),
        ),
    )
        .encode(env)
}

/// `{:error, {:refused, reason}}`: the chain's state does not allow it.
pub fn refused<'a>(env: Env<'a>, reason: Atom) -> Term<'a> {
    (atoms::error(), (atoms::refused(), reason)).encode(env)
}

/// The atom of one of the core's own names.
pub fn name(env: Env<'_>, name: &'static str) -> Atom {
    Atom::from_str(env, name).unwrap_or_else(|_| atoms::nil())
}

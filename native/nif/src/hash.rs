//! `EventSeal.Hash`.

use crate::list::List;
use crate::terms::{array, atoms, binary};
use event_seal_core::digest::{Algorithm, Hasher, digest_each};
use rustler::{Atom, Binary, Env, NifResult, Resource, ResourceArc, Term};

pub struct State(Hasher);

#[rustler::resource_impl]
impl Resource for State {}

/// Calls `with` with the algorithm that the term names.
fn with_algorithm<T>(term: Term, with: impl FnOnce(Algorithm) -> T) -> NifResult<T> {
    if let Ok(plain) = term.decode::<Atom>() {
        return match plain {
            plain if plain == atoms::sha256() => Ok(with(Algorithm::Sha256)),
            plain if plain == atoms::blake3() => Ok(with(Algorithm::Blake3)),
            _ => Err(rustler::Error::BadArg),
        };
    }
    let (family, mode, parameter): (Atom, Atom, Binary) = term.decode()?;
    if family == atoms::blake3() && mode == atoms::keyed() {
        Ok(with(Algorithm::Blake3Keyed(&array(parameter)?)))
    } else if family == atoms::blake3() && mode == atoms::derive_key() {
        let context = std::str::from_utf8(parameter.as_slice()).map_err(|_| rustler::Error::BadArg)?;
        Ok(with(Algorithm::Blake3DeriveKey(context)))
    } else {
        Err(rustler::Error::BadArg)
    }
}

fn each<'a>(env: Env<'a>, algorithm: Term<'a>, inputs: &[Binary<'a>]) -> NifResult<Vec<Term<'a>>> {
    let inputs: Vec<&[u8]> = inputs.iter().map(Binary::as_slice).collect();
    let digests = with_algorithm(algorithm, |algorithm| digest_each(algorithm, &inputs))?;
    Ok(digests.iter().map(|digest| binary(env, digest)).collect())
}

#[rustler::nif]
fn hash_all_here<'a>(
    env: Env<'a>,
    algorithm: Term<'a>,
    inputs: List<Binary<'a>>,
) -> NifResult<Vec<Term<'a>>> {
    each(env, algorithm, &inputs)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn hash_all_dirty<'a>(
    env: Env<'a>,
    algorithm: Term<'a>,
    inputs: List<Binary<'a>>,
) -> NifResult<Vec<Term<'a>>> {
    each(env, algorithm, &inputs)
}

#[rustler::nif]
fn hash_new(algorithm: Term) -> NifResult<ResourceArc<State>> {
    with_algorithm(algorithm, |algorithm| {
        ResourceArc::new(State(Hasher::new(algorithm)))
    })
}

fn fed(state: &State, input: &[u8]) -> ResourceArc<State> {
    let mut hasher = state.0.clone();
    hasher.update(input);
    ResourceArc::new(State(hasher))
}

#[rustler::nif]
fn hash_update_here(state: ResourceArc<State>, input: Binary) -> ResourceArc<State> {
    fed(&state, input.as_slice())
}

#[rustler::nif(schedule = "DirtyCpu")]
fn hash_update_dirty(state: ResourceArc<State>, input: Binary) -> ResourceArc<State> {
    fed(&state, input.as_slice())
}

#[rustler::nif]
fn hash_final(env: Env<'_>, state: ResourceArc<State>) -> Term<'_> {
    binary(env, &state.0.finalize())
}

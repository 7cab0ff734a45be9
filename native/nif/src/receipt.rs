//! Receipts: signed by the store, checked by whoever holds one.

use crate::list::List;
use crate::log::{key_error, policy, policy_error};
use crate::proof::refusal as proof_refusal;
use crate::terms::{array, atoms, binary, malformed, name, ok, refused, suite, suite_atom};
use event_seal_core::checkpoint::Policy;
use event_seal_core::note::{KeyError, VerifierKey};
use event_seal_core::proof;
use event_seal_core::receipt::{
    Group, Held, Outcome, Promise, Refused, SignError, Standing, kept, may_sign, verify,
};
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};

mod names {
    rustler::atoms! {
        pool, settled, retracted, kept, amended, broken, other, receipt, proof, purpose, signature, unsigned,
    }
}

/// The promises of a commit, while they are signed.
pub struct Promises(Group);

#[rustler::resource_impl]
impl Resource for Promises {}

type Promised<'a> = (Atom, Binary<'a>, Binary<'a>, Atom, i64);

/// Suite, genesis digest, frame, standing and deadline of each: the group, and the text to be signed.
#[rustler::nif]
fn receipts_group_here<'a>(env: Env<'a>, promised: List<Promised<'a>>) -> NifResult<Term<'a>> {
    group(env, &promised)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn receipts_group_dirty<'a>(env: Env<'a>, promised: List<Promised<'a>>) -> NifResult<Term<'a>> {
    group(env, &promised)
}

fn group<'a>(env: Env<'a>, promised: &[Promised<'a>]) -> NifResult<Term<'a>> {
    let mut promises = Vec::with_capacity(promised.len());
    for (of, genesis, frame, standing, deadline) in promised {
        let (suite, genesis, standing) = (suite(*of)?, array(*genesis)?, standing_of(*standing)?);
        match Promise::of(suite, genesis, frame.as_slice(), standing, *deadline) {
            Ok(promise) => promises.push(promise),
            Err(fault) => return Ok(malformed(env, &fault)),
        }
    }
    let group = Group::new(promises).ok_or(rustler::Error::BadArg)?;
    let text = group.text();
    Ok(ok(env, (ResourceArc::new(Promises(group)), text)))
}

fn standing_of(atom: Atom) -> NifResult<Standing> {
    match atom {
        atom if atom == names::pool() => Ok(Standing::Pool),
        atom if atom == names::settled() => Ok(Standing::Settled),
        atom if atom == names::retracted() => Ok(Standing::Retracted),
        _ => Err(rustler::Error::BadArg),
    }
}

/// What is promised of each, and its receipt, if this is the key's signature.
#[rustler::nif]
fn receipts_signed_here<'a>(
    env: Env<'a>,
    promises: ResourceArc<Promises>,
    key: &str,
    signature: Binary,
) -> Term<'a> {
    signed(env, &promises.0, key, signature.as_slice())
}

#[rustler::nif(schedule = "DirtyCpu")]
fn receipts_signed_dirty<'a>(
    env: Env<'a>,
    promises: ResourceArc<Promises>,
    key: &str,
    signature: Binary,
) -> Term<'a> {
    signed(env, &promises.0, key, signature.as_slice())
}

fn signed<'a>(env: Env<'a>, group: &Group, key: &str, signature: &[u8]) -> Term<'a> {
    let key = match VerifierKey::parse(key) {
        Ok(key) => key,
        Err(error) => return key_error(env, error),
    };
    match group.receipts(&key, signature) {
        Ok(texts) => {
            let receipts = group.promises().iter().zip(&texts);
            let receipts: Vec<Term> = receipts
                .map(|(promise, text)| (promised(env, promise), text).encode(env))
                .collect();
            ok(env, receipts)
        }
        Err(error) => sign_error(env, error),
    }
}

fn sign_error(env: Env<'_>, error: SignError) -> Term<'_> {
    match error {
        SignError::Purpose => refused(env, names::purpose()),
        SignError::Signature => refused(env, names::signature()),
    }
}

/// Whether this key may sign receipts.
#[rustler::nif]
fn receipts_key<'a>(env: Env<'a>, key: &'a str) -> Term<'a> {
    match VerifierKey::parse(key) {
        Ok(own) => may_sign(&own).map_or_else(|error| sign_error(env, error), |()| ok(env, key)),
        Err(error) => key_error(env, error),
    }
}

/// What a receipt promises under one of these keys, or why it is worth nothing.
#[rustler::nif]
fn receipt_verify<'a>(env: Env<'a>, text: Binary<'a>, receipts: List<&'a str>) -> Term<'a> {
    let policy = match keys(&receipts) {
        Ok(keys) => Policy::of_receipts(keys),
        Err(error) => return key_error(env, error),
    };
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => return refused(env, policy_error(error)),
    };
    match verify(text.as_slice(), &policy) {
        Ok(Held { receipt, key }) => ok(env, (promised(env, &receipt.promise), key.to_string())),
        Err(why) => refusal(env, &why),
    }
}

/// What a proof says of a receipt's promise, both under keys that are trusted.
#[rustler::nif(schedule = "DirtyCpu")]
fn receipt_kept<'a>(
    env: Env<'a>,
    receipt: Binary<'a>,
    proof: Binary<'a>,
    receipts: List<&'a str>,
    trusted: (List<&'a str>, List<&'a str>, usize),
) -> Term<'a> {
    let policy = match whole_policy(env, &receipts, &trusted) {
        Ok(policy) => policy,
        Err(refused) => return refused,
    };
    let of = |which: Atom, failure: Term<'a>| (atoms::error(), (which, failure)).encode(env);
    let held = match verify(receipt.as_slice(), &policy) {
        Ok(held) => held,
        Err(why) => return of(names::receipt(), refusal(env, &why)),
    };
    let proven = match proof::verify(proof.as_slice(), &policy) {
        Ok(proven) => proven,
        Err(why) => return of(names::proof(), proof_refusal(env, &why)),
    };
    match kept(&held.receipt.promise, &proven) {
        Some(Outcome::Kept) => ok(env, names::kept()),
        Some(Outcome::Amended) => ok(env, names::amended()),
        Some(Outcome::Broken(field)) => ok(env, (names::broken(), name(env, field))),
        None => refused(env, names::other()),
    }
}

fn whole_policy<'a>(
    env: Env<'a>,
    receipts: &[&str],
    (logs, witnesses, quorum): &(List<&str>, List<&str>, usize),
) -> Result<Policy, Term<'a>> {
    let receipts = keys(receipts).map_err(|error| key_error(env, error))?;
    let policy = policy(env, logs, witnesses, *quorum)?;
    let policy = policy.with_receipts(receipts);
    policy.map_err(|error| refused(env, policy_error(error)))
}

fn keys(texts: &[&str]) -> Result<Vec<VerifierKey>, KeyError> {
    texts.iter().map(|text| VerifierKey::parse(text)).collect()
}

fn refusal<'a>(env: Env<'a>, why: &Refused) -> Term<'a> {
    match why {
        Refused::Malformed(fault) => malformed(env, fault),
        Refused::Unsigned => refused(env, names::unsigned()),
        Refused::Signature => refused(env, names::signature()),
    }
}

fn promised<'a>(env: Env<'a>, promise: &Promise) -> Term<'a> {
    let of = [
        suite_atom(promise.suite).encode(env),
        binary(env, &promise.genesis),
        binary(env, &promise.euid),
        promise.revision.encode(env),
        promise.recorded_at.encode(env),
        binary(env, &promise.commitment),
        name(env, promise.standing.name()).encode(env),
        promise.deadline.encode(env),
    ];
    make_tuple(env, &of)
}

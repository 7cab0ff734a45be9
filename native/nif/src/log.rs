//! The store-wide log: leaves, the tree over them, keys and checkpoints.

use crate::list::List;
use crate::terms::{array, atoms, binary, digests, malformed, ok, refused, suite, suite_atom};
use event_seal_core::checkpoint::{self, Policy, PolicyError, Refused, SignError};
use event_seal_core::log::{Chunks, Frontier, Index, Leaf, Missing, Plan, Tree};
use event_seal_core::note::{KeyError, Note, Purpose, Signer, VerifierKey};
use event_seal_core::suite::Digest;
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};
use std::sync::{Mutex, MutexGuard, PoisonError};

mod names {
    rustler::atoms! {
        block, tail, erasure, key_change, decision, unknown, log, witness, inclusion, consistency, root, full, chunk,
        receipts, format, name, kind = "type", id, point, purpose, size, logs, shared, quorum, origin, unsigned, signature,
    }
}

/// The leaf of a block.
#[rustler::nif]
fn block_leaf<'a>(
    env: Env<'a>,
    of: Atom,
    genesis: Binary,
    height: u64,
    last: u64,
    hash: Binary,
) -> NifResult<Term<'a>> {
    let leaf = Leaf::Block {
        suite: suite(of)?,
        genesis: array(genesis)?,
        height,
        last,
        hash: array(hash)?,
    };
    Ok(binary(env, &leaf.encode()))
}

/// The leaf of a flow's last settled event.
#[rustler::nif]
fn tail_leaf<'a>(
    env: Env<'a>,
    of: Atom,
    genesis: Binary,
    n: u64,
    provisional: Binary,
) -> NifResult<Term<'a>> {
    let leaf = Leaf::Tail {
        suite: suite(of)?,
        genesis: array(genesis)?,
        n,
        provisional: array(provisional)?,
    };
    Ok(binary(env, &leaf.encode()))
}

/// The leaf of a decision: what is held of a flow from here on, and the commitment to why.
#[rustler::nif]
fn decision_leaf<'a>(
    env: Env<'a>,
    of: Atom,
    genesis: Binary,
    n: u64,
    provisional: Binary,
    decision: Binary,
) -> NifResult<Term<'a>> {
    let leaf = Leaf::Decision {
        suite: suite(of)?,
        genesis: array(genesis)?,
        n,
        provisional: array(provisional)?,
        decision: array(decision)?,
    };
    Ok(binary(env, &leaf.encode()))
}

/// The leaf that says that another key signs from now on.
#[rustler::nif]
fn key_change_leaf<'a>(env: Env<'a>, old: &str, new: &str) -> Term<'a> {
    binary(env, &Leaf::KeyChange { old, new }.encode())
}

#[rustler::nif]
fn read_leaf<'a>(env: Env<'a>, data: Binary) -> Term<'a> {
    match Leaf::decode(data.as_slice()) {
        Ok(leaf) => ok(env, shown(env, &leaf)),
        Err(fault) => malformed(env, &fault),
    }
}

fn shown<'a>(env: Env<'a>, leaf: &Leaf<'_>) -> Term<'a> {
    let bytes = |digest: &Digest| binary(env, digest);
    match leaf {
        Leaf::Block {
            suite,
            genesis,
            height,
            last,
            hash,
        } => {
            let of = (names::block(), suite_atom(*suite), bytes(genesis));
            (of.0, of.1, of.2, *height, *last, bytes(hash)).encode(env)
        }
        Leaf::Tail {
            suite,
            genesis,
            n,
            provisional,
        } => (
            names::tail(),
            suite_atom(*suite),
            bytes(genesis),
            *n,
            bytes(provisional),
        )
            .encode(env),
        Leaf::Erasure {
            suite,
            genesis,
            n,
            erased_at,
            reason,
        } => {
            let of = (names::erasure(), suite_atom(*suite), bytes(genesis));
            (of.0, of.1, of.2, *n, *erased_at, bytes(reason)).encode(env)
        }
        Leaf::KeyChange { old, new } => (names::key_change(), *old, *new).encode(env),
        Leaf::Decision {
            suite,
            genesis,
            n,
            provisional,
            decision,
        } => {
            let of = (names::decision(), suite_atom(*suite), bytes(genesis));
            (of.0, of.1, of.2, *n, bytes(provisional), bytes(decision)).encode(env)
        }
        Leaf::Unknown { kind, .. } => (names::unknown(), *kind).encode(env),
    }
}

/// A tree as its keeper holds it, and what its leaves speak of.
#[derive(Default)]
struct Kept {
    tree: Tree,
    index: Index,
}

pub struct Keeper(Mutex<Kept>);

#[rustler::resource_impl]
impl Resource for Keeper {}

impl Keeper {
    /// A tree is whole between two leaves, so a panic between them leaves nothing half done.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[rustler::nif]
fn log_tree() -> ResourceArc<Keeper> {
    ResourceArc::new(Keeper(Mutex::default()))
}

/// Adds leaves, each by its data; those before a malformed one are added.
#[rustler::nif(schedule = "DirtyCpu")]
fn log_push<'a>(env: Env<'a>, keeper: ResourceArc<Keeper>, leaves: List<Binary>) -> Term<'a> {
    let mut kept = keeper.kept();
    for data in leaves.iter() {
        let at = kept.tree.size();
        match Leaf::decode(data.as_slice()) {
            Ok(leaf) => kept.index.learn(at, &leaf),
            Err(fault) => return malformed(env, &fault),
        }
        if kept.tree.push(data.as_slice()).is_err() {
            return refused(env, names::full());
        }
    }
    ok(env, kept.tree.size())
}

/// `{size, root}`.
#[rustler::nif]
fn log_head<'a>(env: Env<'a>, keeper: ResourceArc<Keeper>) -> (u64, Term<'a>) {
    let kept = keeper.kept();
    (kept.tree.size(), binary(env, &kept.tree.root()))
}

/// The last position that a leaf tells of the flow's tail, and that leaf's index.
#[rustler::nif]
fn log_tail(keeper: ResourceArc<Keeper>, genesis: Binary) -> NifResult<(u64, u64)> {
    Ok(keeper.kept().index.tail(&array(genesis)?))
}

/// Where the leaf of the block with this hash should be, or nil.
#[rustler::nif]
fn log_block(keeper: ResourceArc<Keeper>, hash: Binary) -> NifResult<Option<u64>> {
    Ok(keeper.kept().index.block(&array(hash)?))
}

/// What is asked of a tree.
enum Asked {
    Path(Plan),
    Root(u64),
}

impl Asked {
    fn of(term: Term, size: u64) -> NifResult<Option<Asked>> {
        if let Ok((what, at)) = term.decode::<(Atom, u64)>()
            && what == names::root()
        {
            return Ok((at <= size).then_some(Asked::Root(at)));
        }
        let (what, first, second): (Atom, u64, u64) = term.decode()?;
        let plan = match what {
            what if what == names::inclusion() => Plan::inclusion(first, second),
            what if what == names::consistency() => Plan::consistency(first, second),
            _ => return Err(rustler::Error::BadArg),
        };
        Ok(plan.filter(|_| second <= size).map(Asked::Path))
    }

    fn indexes(&self) -> Vec<u64> {
        match self {
            Asked::Path(plan) => plan.indexes(),
            Asked::Root(size) => Frontier::indexes(*size),
        }
    }

    fn answer(&self, tree: &Tree, chunks: &Chunks<'_>) -> Result<Vec<Digest>, Missing> {
        let read = |index| tree.read(index, chunks);
        match self {
            Asked::Path(plan) => plan.path(read),
            Asked::Root(size) => Ok(vec![Frontier::restore(*size, read)?.root()]),
        }
    }
}

/// The chunks of 1,024 leaves that have to be given to `log_path`, by number.
#[rustler::nif]
fn log_chunks<'a>(env: Env<'a>, keeper: ResourceArc<Keeper>, asked: Term<'a>) -> NifResult<Term<'a>> {
    let tree = &keeper.kept().tree;
    Ok(match Asked::of(asked, tree.size())? {
        Some(asked) => ok(env, tree.chunks(&asked.indexes())),
        None => refused(env, names::size()),
    })
}

/// The digests of an inclusion or consistency path, or the root of an earlier size, one after the other.
#[rustler::nif(schedule = "DirtyCpu")]
fn log_path<'a>(
    env: Env<'a>,
    keeper: ResourceArc<Keeper>,
    asked: Term<'a>,
    chunks: List<(u64, List<Binary<'a>>)>,
) -> NifResult<Term<'a>> {
    let tree = &keeper.kept().tree;
    let Some(asked) = Asked::of(asked, tree.size())? else {
        return Ok(refused(env, names::size()));
    };
    let leaves = |(chunk, leaves): (u64, List<Binary<'a>>)| {
        (chunk, leaves.into_iter().map(|leaf| leaf.as_slice()).collect())
    };
    let chunks: Chunks = chunks.into_iter().map(leaves).collect();
    Ok(match asked.answer(tree, &chunks) {
        Ok(path) => ok(env, binary(env, path.as_flattened())),
        Err(Missing(_)) => refused(env, names::chunk()),
    })
}

pub struct Key(Signer);

#[rustler::resource_impl]
impl Resource for Key {}

fn purpose(atom: Atom) -> NifResult<Purpose> {
    match atom {
        atom if atom == names::log() => Ok(Purpose::Log),
        atom if atom == names::witness() => Ok(Purpose::Witness),
        atom if atom == names::receipts() => Ok(Purpose::Receipts),
        _ => Err(rustler::Error::BadArg),
    }
}

/// Why something is no key.
pub fn key_error(env: Env<'_>, error: KeyError) -> Term<'_> {
    let reason = match error {
        KeyError::Format => names::format(),
        KeyError::Name => names::name(),
        KeyError::Type => names::kind(),
        KeyError::Id => names::id(),
        KeyError::Point => names::point(),
    };
    refused(env, reason)
}

/// The texts of a secret key, by name and seed, and of the key that verifies.
#[rustler::nif]
fn key_texts<'a>(env: Env<'a>, name: &str, of: Atom, seed: Binary) -> NifResult<Term<'a>> {
    Ok(match Signer::new(name, purpose(of)?, &array(seed)?) {
        Ok(signer) => {
            let secret = binary(env, signer.secret_text().as_bytes());
            ok(env, (secret, signer.verifier().to_string()))
        }
        Err(error) => key_error(env, error),
    })
}

/// A secret key, held where no term, dump or trace shows it, and the key that verifies.
#[rustler::nif]
fn key_open<'a>(env: Env<'a>, text: Binary) -> Term<'a> {
    let text = std::str::from_utf8(text.as_slice()).map_err(|_| KeyError::Format);
    match text.and_then(Signer::parse) {
        Ok(signer) => {
            let verifier = signer.verifier().to_string();
            ok(env, (ResourceArc::new(Key(signer)), verifier))
        }
        Err(error) => key_error(env, error),
    }
}

#[rustler::nif]
fn key_sign<'a>(env: Env<'a>, key: ResourceArc<Key>, message: Binary) -> Term<'a> {
    binary(env, &key.0.sign(message.as_slice()))
}

fn sign_error(env: Env<'_>, error: SignError) -> Term<'_> {
    match error {
        SignError::Purpose => refused(env, names::purpose()),
        SignError::Range => refused(env, names::size()),
        SignError::Malformed(fault) => malformed(env, &fault),
    }
}

/// The text of a checkpoint, to be signed by this verifier key's holder.
#[rustler::nif]
fn checkpoint_text<'a>(env: Env<'a>, key: &str, size: u64, root: Binary) -> NifResult<Term<'a>> {
    let key = match VerifierKey::parse(key) {
        Ok(key) => key,
        Err(error) => return Ok(key_error(env, error)),
    };
    Ok(match checkpoint::text(&key, size, array(root)?) {
        Ok(text) => ok(env, text),
        Err(error) => sign_error(env, error),
    })
}

/// A key's signature line.
#[rustler::nif]
fn signature_line<'a>(env: Env<'a>, key: &str, signature: Binary) -> Term<'a> {
    match VerifierKey::parse(key) {
        Ok(key) => ok(env, key.line(signature.as_slice())),
        Err(error) => key_error(env, error),
    }
}

/// Opens a checkpoint under a policy: `{:ok, {origin, size, root, key, [{witness, time}]}}`.
#[rustler::nif]
fn checkpoint_open<'a>(
    env: Env<'a>,
    note: Binary,
    logs: List<&str>,
    witnesses: List<&str>,
    quorum: usize,
) -> Term<'a> {
    let policy = match policy(env, &logs, &witnesses, quorum) {
        Ok(policy) => policy,
        Err(refused) => return refused,
    };
    let Ok(note) = std::str::from_utf8(note.as_slice()) else {
        return refused(env, names::format());
    };
    match policy.open(note) {
        Ok(opened) => {
            let checkpoint = opened.checkpoint;
            let cosigned = |one: &checkpoint::Cosignature| (one.witness.to_string(), one.time);
            let cosignatures: Vec<_> = opened.cosignatures.iter().map(cosigned).collect();
            let of = [
                checkpoint.origin.encode(env),
                checkpoint.size.encode(env),
                binary(env, &checkpoint.root),
                opened.log.to_string().encode(env),
                cosignatures.encode(env),
            ];
            ok(env, make_tuple(env, &of))
        }
        Err(why) => refusal(env, &why),
    }
}

/// Whom to believe; or a term that says why the keys make no policy.
pub fn policy<'a>(
    env: Env<'a>,
    logs: &[&str],
    witnesses: &[&str],
    quorum: usize,
) -> Result<Policy, Term<'a>> {
    let keys = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| VerifierKey::parse(text))
            .collect::<Result<_, _>>()
    };
    let logs = keys(logs).map_err(|error| key_error(env, error))?;
    let witnesses = keys(witnesses).map_err(|error| key_error(env, error))?;
    Policy::new(logs, witnesses, quorum).map_err(|error| refused(env, policy_error(error)))
}

/// Why a checkpoint is not believed.
pub fn refusal<'a>(env: Env<'a>, why: &Refused) -> Term<'a> {
    match why {
        Refused::Malformed(fault) => malformed(env, fault),
        why => refused(env, why_refused(why)),
    }
}

/// Why keys make no policy.
pub fn policy_error(error: PolicyError) -> Atom {
    match error {
        PolicyError::Logs => names::logs(),
        PolicyError::Purpose => names::purpose(),
        PolicyError::Shared => names::shared(),
        PolicyError::Quorum => names::quorum(),
    }
}

fn why_refused(why: &Refused) -> Atom {
    match why {
        Refused::Malformed(_) => atoms::malformed(),
        Refused::Origin => names::origin(),
        Refused::Unsigned => names::unsigned(),
        Refused::Signature => names::signature(),
        Refused::Quorum { .. } => names::quorum(),
    }
}

/// What a witness is asked: that a checkpoint extends the size that it cosigned last, by this path.
#[rustler::nif]
fn witness_request<'a>(old: u64, path: Binary<'a>, checkpoint: &'a str) -> NifResult<String> {
    let path = digests(path)?.to_vec();
    Ok(checkpoint::Request {
        old,
        path,
        checkpoint,
    }
    .text())
}

/// `{:ok, {old size, checkpoint}}`.
#[rustler::nif]
fn witness_read<'a>(env: Env<'a>, request: Binary<'a>) -> Term<'a> {
    match checkpoint::Request::parse(request.as_slice()) {
        Ok(request) => ok(env, (request.old, request.checkpoint)),
        Err(fault) => malformed(env, &fault),
    }
}

/// Whether what is asked extends the tree of the old size that has this root.
#[rustler::nif]
fn witness_extends<'a>(env: Env<'a>, request: Binary<'a>, root: Binary<'a>) -> NifResult<Term<'a>> {
    let root = array(root)?;
    Ok(
        match checkpoint::Request::parse(request.as_slice()).and_then(|request| request.extends(&root)) {
            Ok(extends) => ok(env, extends),
            Err(fault) => malformed(env, &fault),
        },
    )
}

/// What a witness signs: a checkpoint's text at a time, in seconds since the UNIX epoch.
#[rustler::nif]
fn cosigned_text<'a>(env: Env<'a>, note: &str, time: u64) -> Term<'a> {
    match Note::parse(note) {
        Ok(note) => ok(env, binary(env, &checkpoint::cosigned(note.text, time))),
        Err(fault) => malformed(env, &fault),
    }
}

/// A note with further signature lines.
#[rustler::nif]
fn note_with<'a>(env: Env<'a>, note: &str, lines: &str) -> Term<'a> {
    match Note::parse(note).and_then(|note| note.with(lines)) {
        Ok(note) => ok(env, note),
        Err(fault) => malformed(env, &fault),
    }
}

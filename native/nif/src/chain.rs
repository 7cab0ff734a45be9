//! `EventSeal.Chain`: genesis, frames, settling, sealing, reading containers.

use crate::list::List;
use crate::terms::{
    array, atoms, binary, digests, invalid, joined, malformed, ok, refused, suite, suite_atom,
};
use event_seal_core::Malformed;
use event_seal_core::block::{Body, Container, Entry, Kind, SealError, Sealing, pack_tail, seal_in};
use event_seal_core::chain::fresh::{self, Fresh, NotSettled, settle_fresh};
use event_seal_core::chain::run::{self, Unsealed};
use event_seal_core::chain::{Corrupt, Links, SettleError, Settled, Settling, Stored, settle_many};
use event_seal_core::event::{Event, Where, decode_salted_body, salted_body};
use event_seal_core::genesis::Genesis;
use event_seal_core::suite::{Digest, Role, hash_each};
use rustler::{Atom, Binary, Encoder, Env, NifResult, NifTuple, OwnedBinary, Term};

#[rustler::nif]
fn genesis<'a>(
    env: Env<'a>,
    suite_name: Atom,
    created_at: i64,
    nonce: Binary,
    flow: &str,
) -> NifResult<Term<'a>> {
    Ok(
        match Genesis::new(suite(suite_name)?, created_at, array(nonce)?, flow) {
            Ok(genesis) => ok(env, binary(env, &genesis.encode())),
            Err(fault) => invalid(env, &fault),
        },
    )
}

/// `{suite, created_at, flow, digest, links}`.
#[rustler::nif]
fn read_genesis<'a>(env: Env<'a>, record: Binary) -> Term<'a> {
    match Genesis::decode(record.as_slice()) {
        Ok(genesis) => {
            let digest = genesis.digest();
            let links = Links::start(genesis.suite, digest).encode();
            let suite = suite_atom(genesis.suite);
            ok(
                env,
                (
                    suite,
                    genesis.created_at,
                    genesis.flow,
                    binary(env, &digest),
                    binary(env, &links),
                ),
            )
        }
        Err(fault) => malformed(env, &fault),
    }
}

/// An event as `EventSeal.Event.draft/2` and `EventSeal.Chain.stamp/2` leave it.
#[derive(NifTuple)]
struct Draft<'a> {
    euid: Binary<'a>,
    when: i64,
    recorded_at: i64,
    revision: u16,
    kind: &'a str,
    version: u16,
    place: Term<'a>,
    who: Option<&'a str>,
    salt: Binary<'a>,
    body: Binary<'a>,
}

fn place(term: Term<'_>) -> NifResult<Where<'_>> {
    match term.decode::<(i32, i32)>() {
        Ok((lat, lon)) => Ok(Where::Geo { lat, lon }),
        Err(_) => Ok(term
            .decode::<Option<&str>>()?
            .map_or(Where::Nowhere, Where::Place)),
    }
}

fn event<'a>(draft: &Draft<'a>, commitment: Digest) -> NifResult<Event<'a>> {
    Ok(Event {
        euid: array(draft.euid)?,
        when: draft.when,
        recorded_at: draft.recorded_at,
        commitment,
        late: false,
        revision: draft.revision,
        kind: draft.kind,
        version: draft.version,
        place: place(draft.place)?,
        who: draft.who,
    })
}

fn frames<'a>(env: Env<'a>, suite_name: Atom, drafts: List<Draft<'a>>) -> NifResult<Term<'a>> {
    let bodies = drafts
        .iter()
        .map(|draft| Ok(salted_body(&array(draft.salt)?, draft.body.as_slice())))
        .collect::<NifResult<Vec<_>>>()?;
    let inputs: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let mut commitments = Vec::with_capacity(inputs.len());
    hash_each(suite(suite_name)?, Role::Body, &inputs, &mut commitments);
    let mut packed = Vec::with_capacity(drafts.len());
    let mut frame = Vec::new();
    for ((draft, body), commitment) in drafts.iter().zip(&bodies).zip(commitments) {
        frame.clear();
        if let Err(fault) = event(draft, commitment)?.encode(&mut frame) {
            return Ok(invalid(env, &fault));
        }
        packed.push((binary(env, &frame), binary(env, body)));
    }
    Ok(ok(env, packed))
}

#[rustler::nif]
fn frames_here<'a>(env: Env<'a>, suite: Atom, drafts: List<Draft<'a>>) -> NifResult<Term<'a>> {
    frames(env, suite, drafts)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn frames_dirty<'a>(env: Env<'a>, suite: Atom, drafts: List<Draft<'a>>) -> NifResult<Term<'a>> {
    frames(env, suite, drafts)
}

type Asked<'a> = (Binary<'a>, List<Binary<'a>>, bool);

/// For each flow what it settled, as `settled` puts it, with a record for each event.
fn settle_flows<'a>(env: Env<'a>, flows: List<Asked<'a>>) -> Term<'a> {
    let mut settling = Vec::with_capacity(flows.len());
    for (links, frames, closing) in flows {
        let links = match Links::decode(links.as_slice()) {
            Ok(links) => links,
            Err(fault) => return malformed(env, &fault),
        };
        settling.push(Settling {
            links,
            frames: frames.iter().map(|frame| frame.as_slice().to_vec()).collect(),
            closing,
        });
    }
    let found = match settle_many(settling) {
        Ok(found) => found,
        Err(fault) => return not_settled(env, &fault),
    };
    let answers = found.iter().map(|(links, found)| {
        let records = found
            .entries
            .iter()
            .map(|entry| binary(env, &run::encode(entry.n, &[Unsealed::new(entry, &[])])));
        settled(env, links, found, records.collect())
    });
    ok(env, answers.collect::<Vec<_>>())
}

/// `{links, records, ids, when_max, recorded_at}`.
fn settled<'a>(env: Env<'a>, links: &Links, found: &Settled, records: Vec<Term<'a>>) -> Term<'a> {
    let ids = binary(env, found.ids.as_flattened());
    (
        binary(env, &links.encode()),
        records,
        ids,
        links.when_max(),
        links.recorded_at(),
    )
        .encode(env)
}

fn not_settled<'a>(env: Env<'a>, fault: &SettleError) -> Term<'a> {
    match fault {
        SettleError::Closed => refused(env, atoms::closed()),
        SettleError::Full => refused(env, atoms::full()),
        SettleError::Frame { malformed: fault, .. } => malformed(env, fault),
        SettleError::RecordedAt { .. } => refused(env, atoms::recorded_at()),
        SettleError::Close { .. } => refused(env, atoms::close()),
    }
}

#[rustler::nif]
fn settle_here<'a>(env: Env<'a>, flows: List<Asked<'a>>) -> Term<'a> {
    settle_flows(env, flows)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn settle_dirty<'a>(env: Env<'a>, flows: List<Asked<'a>>) -> Term<'a> {
    settle_flows(env, flows)
}

/// Packs drafts and settles them, in many flows: `frames` and `settle` in one. For each flow what `settled` puts, with
/// `{record, salted bodies, count}` for each run.
fn settle_drafts<'a>(env: Env<'a>, flows: List<(Binary<'a>, List<Draft<'a>>)>) -> NifResult<Term<'a>> {
    let mut fresh = Vec::with_capacity(flows.len());
    for (links, drafts) in flows.iter() {
        let links = match Links::decode(links.as_slice()) {
            Ok(links) => links,
            Err(fault) => return Ok(malformed(env, &fault)),
        };
        let drafts = drafts.iter().map(|draft| {
            Ok(fresh::Draft {
                event: event(draft, [0; 32])?,
                salt: array(draft.salt)?,
                body: draft.body.as_slice(),
            })
        });
        fresh.push(Fresh {
            links,
            drafts: drafts.collect::<NifResult<_>>()?,
        });
    }
    Ok(match settle_fresh(fresh) {
        Ok(flows) => {
            let answers = flows.iter().map(|flow| {
                let runs = flow.runs();
                let runs = runs.iter().map(|(first, events)| stored(env, *first, events));
                settled(env, &flow.links, &flow.settled, runs.collect())
            });
            ok(env, answers.collect::<Vec<_>>())
        }
        Err(NotSettled::Invalid(fault)) => invalid(env, &fault),
        Err(NotSettled::Error(fault)) => not_settled(env, &fault),
    })
}

/// `{record, salted bodies, count}`.
fn stored<'a>(env: Env<'a>, first: u64, events: &[Unsealed<'_>]) -> Term<'a> {
    let record = binary(env, &run::encode(first, events));
    let bodies = joined(env, events.iter().filter_map(|event| event.body));
    (record, bodies, events.len()).encode(env)
}

#[rustler::nif]
fn settle_drafts_here<'a>(env: Env<'a>, flows: List<(Binary<'a>, List<Draft<'a>>)>) -> NifResult<Term<'a>> {
    settle_drafts(env, flows)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn settle_drafts_dirty<'a>(env: Env<'a>, flows: List<(Binary<'a>, List<Draft<'a>>)>) -> NifResult<Term<'a>> {
    settle_drafts(env, flows)
}

/// A run as it is stored: its record and its salted bodies.
type Run<'a> = (Binary<'a>, Option<Binary<'a>>);

fn decoded<'a>((record, bodies): &Run<'a>) -> Result<run::Run<'a>, Malformed> {
    run::decode(record.as_slice(), bodies.map(|bodies| bodies.as_slice()))
}

/// Settles stored runs again behind the last block and compares. What `settled` puts for a flow, without records, and the
/// edge before the next block: three ids, two event hashes.
#[rustler::nif(schedule = "DirtyCpu")]
fn restore<'a>(
    env: Env<'a>,
    genesis: Binary<'a>,
    last_block: Option<Binary<'a>>,
    when_max: Option<i64>,
    runs: List<Run<'a>>,
) -> NifResult<Term<'a>> {
    let runs: Vec<_> = match runs.iter().map(decoded).collect() {
        Ok(runs) => runs,
        Err(fault) => return Ok(malformed(env, &fault)),
    };
    let stored: Vec<_> = runs
        .iter()
        .flat_map(|(_, events)| events)
        .map(Stored::from)
        .collect();
    let block = match last_block
        .map(|block| Container::decode(block.as_slice()))
        .transpose()
    {
        Ok(block) => block,
        Err(fault) => return Ok(malformed(env, &fault)),
    };
    Ok(
        match Links::restore(genesis.as_slice(), block.as_ref(), when_max, &stored) {
            Ok((links, found)) => {
                let edge = block.map(|block| {
                    let [_, second, first] = block.last_hashes();
                    binary(
                        env,
                        [block.last_ids().as_flattened(), &second, &first]
                            .concat()
                            .as_slice(),
                    )
                });
                ok(env, (settled(env, &links, &found, Vec::new()), edge))
            }
            Err(fault) => not_restored(env, &fault),
        },
    )
}

fn not_restored<'a>(env: Env<'a>, fault: &Corrupt) -> Term<'a> {
    let (what, index) = match fault {
        Corrupt::Genesis => (atoms::genesis(), None),
        Corrupt::Block => (atoms::block(), None),
        Corrupt::Entry { index } => (atoms::entry(), Some(*index)),
        Corrupt::Missing => (atoms::missing(), None),
    };
    (atoms::error(), (atoms::corrupt(), what, index)).encode(env)
}

/// A block's height, first position, epoch, sealed_at, hash of the block before, and whether it ends the flow.
type Placed<'a> = (u64, u64, u64, i64, Binary<'a>, bool);
/// Most events, most bytes; and the position up to which only whole runs are taken.
type Limits = (usize, usize, u64);
/// G, and the three ids and two event hashes before the block.
type Before<'a> = (Binary<'a>, Binary<'a>);

/// Seals as many of the events whose ids are known as the limits let. `{block, before, euids, when_max, count, rest}`:
/// `before` is that of the next block, `rest` what is left of a run that was not taken whole, as `stored` puts it, or nil.
fn seal_runs<'a>(
    env: Env<'a>,
    genesis: Binary<'a>,
    (height, first, epoch, sealed_at, previous, closes): Placed<'a>,
    (filler, before): Before<'a>,
    ids: Binary<'a>,
    runs: List<Run<'a>>,
    (events, bytes, whole): Limits,
) -> NifResult<Term<'a>> {
    let runs: Vec<_> = match runs.iter().map(decoded).collect() {
        Ok(runs) => runs,
        Err(fault) => return Ok(malformed(env, &fault)),
    };
    let ids = digests(ids)?;
    let limits = run::Limits {
        events: events.min(ids.len()),
        bytes,
        whole,
    };
    let [third, second, first_id, hash2, hash1] = digests(before)? else {
        return Err(rustler::Error::BadArg);
    };
    let part = if closes {
        run::all(&runs)
    } else {
        run::part(&runs, &limits)
    };
    if part.sealed.len() > ids.len() {
        return Err(rustler::Error::BadArg);
    }
    let entries: Vec<_> = part
        .sealed
        .iter()
        .zip(ids)
        .map(|(event, id)| event.entry(*id))
        .collect();
    let filler: Digest = array(filler)?;
    let next = |at: usize| part.behind.get(at).copied().unwrap_or(filler);
    let sealing = Sealing {
        genesis_record: genesis.as_slice(),
        height,
        first,
        epoch,
        sealed_at,
        previous: array(previous)?,
        closes,
        ids_before: [*third, *second, *first_id],
        hashes_before: [*hash2, *hash1],
        next_hashes: [next(0), next(1), next(2)],
        entries: &entries,
    };
    Ok(match seal_in(&sealing, OwnedBinary::new) {
        Ok(block) => {
            let euids = joined(env, part.sealed.iter().map(Unsealed::euid));
            let rest = part
                .rest
                .as_ref()
                .map(|(first, events)| stored(env, *first, events));
            let when_max = part.sealed.iter().filter_map(Unsealed::when).max();
            let before = binary(env, sealing.edge_behind().as_flattened());
            ok(
                env,
                (block.release(env), before, euids, when_max, entries.len(), rest),
            )
        }
        Err(fault) => not_sealed(env, &fault),
    })
}

fn entry<'a>(
    frame: Binary<'a>,
    hash: Binary<'a>,
    id: Digest,
    body: Option<Binary<'a>>,
) -> NifResult<Entry<'a>> {
    Ok(Entry {
        frame: frame.as_slice(),
        hash: array(hash)?,
        id,
        body: body.map(|body| body.as_slice()),
    })
}

fn not_sealed<'a>(env: Env<'a>, fault: &SealError) -> Term<'a> {
    match fault {
        SealError::Count => refused(env, atoms::count()),
        SealError::Genesis(fault) => malformed(env, fault),
        SealError::Frame { malformed: fault, .. } | SealError::Body { malformed: fault, .. } => {
            malformed(env, fault)
        }
        SealError::RecordedAt { .. } => refused(env, atoms::recorded_at()),
        SealError::Close { .. } => refused(env, atoms::close()),
        SealError::Seams => refused(env, atoms::seams()),
        SealError::Range => refused(env, atoms::range()),
    }
}

#[rustler::nif]
fn seal_here<'a>(
    env: Env<'a>,
    genesis: Binary<'a>,
    placed: Placed<'a>,
    before: Before<'a>,
    ids: Binary<'a>,
    runs: List<Run<'a>>,
    limits: Limits,
) -> NifResult<Term<'a>> {
    seal_runs(env, genesis, placed, before, ids, runs, limits)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn seal_dirty<'a>(
    env: Env<'a>,
    genesis: Binary<'a>,
    placed: Placed<'a>,
    before: Before<'a>,
    ids: Binary<'a>,
    runs: List<Run<'a>>,
    limits: Limits,
) -> NifResult<Term<'a>> {
    seal_runs(env, genesis, placed, before, ids, runs, limits)
}

/// An event's frame, hash, provisional id and salted body, as a store or an archive holds it.
type Open<'a> = (Binary<'a>, Binary<'a>, Binary<'a>, Option<Binary<'a>>);

#[rustler::nif(schedule = "DirtyCpu")]
fn tail<'a>(
    env: Env<'a>,
    genesis: Binary<'a>,
    last_block: Option<Binary<'a>>,
    entries: List<Open<'a>>,
) -> NifResult<Term<'a>> {
    let entries = entries
        .iter()
        .map(|(frame, hash, provisional, body)| entry(*frame, *hash, array(*provisional)?, *body))
        .collect::<NifResult<Vec<_>>>()?;
    let before = match last_block
        .map(|block| Container::decode(block.as_slice()))
        .transpose()
    {
        Ok(before) => before,
        Err(fault) => return Ok(malformed(env, &fault)),
    };
    Ok(match pack_tail(genesis.as_slice(), before.as_ref(), &entries) {
        Ok(tail) => ok(env, binary(env, &tail)),
        Err(fault) => not_sealed(env, &fault),
    })
}

/// A container's header; `EventSeal.Chain.header/1` names its parts.
#[rustler::nif]
fn header<'a>(env: Env<'a>, container: Binary<'a>) -> Term<'a> {
    let container = container.as_slice();
    match Container::decode(container) {
        Ok(container) => {
            let (header, seams) = (container.header(), container.seams());
            let flow = (
                suite_atom(header.suite),
                container.flow(),
                binary(env, container.genesis_record()),
            );
            let placed = (
                header.height,
                header.first,
                header.count,
                header.epoch,
                header.closes,
            );
            let times = (header.when_min, header.when_max, header.sealed_at);
            let digests = (
                binary(env, &header.previous),
                binary(env, &header.root),
                binary(env, container.hash()),
            );
            let before = [seams.ids.as_flattened(), seams.hashes.as_flattened()].concat();
            let edges = (
                binary(env, &before),
                binary(env, seams.next_hashes.as_flattened()),
            );
            ok(
                env,
                (stage(container.kind()), flow, placed, times, digests, edges),
            )
        }
        Err(fault) => malformed(env, &fault),
    }
}

fn stage(kind: Kind) -> Atom {
    match kind {
        Kind::Block => atoms::fixed(),
        Kind::Tail => atoms::sandbox(),
    }
}

/// For each event `{euid, {when, recorded_at, late, revision}, {kind, version, where, who}, {commitment, hash, id},
/// {salt, body} | nil}`.
fn events<'a>(env: Env<'a>, container: Binary<'a>) -> Term<'a> {
    let found = Container::decode(container.as_slice()).and_then(|container| {
        let digests = container.hashes().iter().zip(container.ids()).enumerate();
        digests
            .map(|(i, (hash, id))| event_row(env, &container.event(i)?, container.body(i), hash, id))
            .collect::<Result<Vec<_>, _>>()
    });
    match found {
        Ok(rows) => ok(env, rows),
        Err(fault) => malformed(env, &fault),
    }
}

fn event_row<'a>(
    env: Env<'a>,
    event: &Event<'_>,
    body: Body<'_>,
    hash: &Digest,
    id: &Digest,
) -> Result<Term<'a>, Malformed> {
    let shown = match body {
        Body::Shown(salted) => {
            let (salt, body) = decode_salted_body(salted)?;
            Some((binary(env, salt), binary(env, body)))
        }
        Body::Erased | Body::Absent => None,
    };
    let place = match event.place {
        Where::Nowhere => atoms::nil().encode(env),
        Where::Place(place) => place.encode(env),
        Where::Geo { lat, lon } => (lat, lon).encode(env),
    };
    let times = (event.when, event.recorded_at, event.late, event.revision);
    let what = (event.kind, event.version, place, event.who);
    let digests = (binary(env, &event.commitment), binary(env, hash), binary(env, id));
    Ok((binary(env, &event.euid), times, what, digests, shown).encode(env))
}

#[rustler::nif]
fn events_here<'a>(env: Env<'a>, container: Binary<'a>) -> Term<'a> {
    events(env, container)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn events_dirty<'a>(env: Env<'a>, container: Binary<'a>) -> Term<'a> {
    events(env, container)
}

//! Verification on a pool of threads: the caller gets a job at once, and its outcome as a message.

use crate::ledger::Held;
use crate::list::List;
use crate::terms::{atoms, binary, datum, name};
use crate::watch::{Budget, Job, Watch};
use event_seal_core::archive::{Archive, no_archive};
use event_seal_core::block::{BEGINNING, Header};
use event_seal_core::interchange::verify_file;
use event_seal_core::verify::{
    Against, Control, Edge, Expect, Fault, ReadFault, Run, Source, Verdict, verify as verify_runs,
};
use event_seal_files::{File, Place, read_together};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustler::env::SavedTerm;
use rustler::{Atom, Binary, Encoder, Env, NifResult, OwnedEnv, Resource, ResourceArc, Term};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub struct Pool {
    threads: AssertUnwindSafe<ThreadPool>,
    budget: Option<Arc<Budget>>,
}

#[rustler::resource_impl]
impl Resource for Pool {}

/// Threads for verification, and what they may use a second of events or bytes. They end with the last job and the last
/// holder of the pool.
#[rustler::nif]
fn pool(threads: usize, max_rate: Option<(u64, Atom)>) -> NifResult<ResourceArc<Pool>> {
    if !(1..=1024).contains(&threads) {
        return Err(rustler::Error::BadArg);
    }
    let budget = max_rate.map(Budget::new).transpose()?.map(Arc::new);
    let builder = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("event_seal_{i}"));
    let threads = builder
        .build()
        .map_err(|_| rustler::Error::RaiseAtom("system_limit"))?;
    let threads = AssertUnwindSafe(threads);
    Ok(ResourceArc::new(Pool { threads, budget }))
}

/// Where a container lies.
pub enum Piece<'a> {
    Bytes(&'a [u8]),
    Range {
        file: Option<Arc<File>>,
        offset: u64,
        length: usize,
    },
}

impl Piece<'_> {
    /// A block's header, if it is one and can be read; no more of it is.
    pub fn header(&self, buffer: &mut Vec<u8>) -> Option<Header> {
        let beginning = match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Range { file, offset, length } => {
                let end = offset.checked_add((*length).min(BEGINNING) as u64)?;
                file.as_ref()?.read(*offset..end, buffer).ok()?
            }
        };
        Header::of_beginning(beginning).ok()
    }
}

struct Pieces<'a, 'w> {
    list: Vec<Piece<'a>>,
    watch: &'w Watch,
}

impl Source for Pieces<'_, '_> {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn size(&self, i: usize) -> usize {
        match self.list.get(i) {
            Some(Piece::Bytes(bytes)) => bytes.len(),
            Some(Piece::Range { length, .. }) => *length,
            None => 0,
        }
    }

    fn place(&self, i: usize) -> (usize, u64) {
        Pieces::place(self, i).map_or((0, 0), |place| place.order())
    }

    fn read<'a>(&'a self, i: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        match self.list.get(i) {
            Some(Piece::Bytes(bytes)) => Ok(bytes),
            Some(Piece::Range {
                file: Some(file),
                offset,
                length,
            }) => {
                let end = offset.checked_add(*length as u64).ok_or(ReadFault)?;
                let wanted = || !self.watch.stopped();
                file.read_while(*offset..end, buffer, wanted)
                    .map_err(|_| ReadFault)
            }
            _ => Err(ReadFault),
        }
    }

    fn read_each<'a>(
        &'a self,
        indexes: &[usize],
        buffers: &'a mut Vec<Vec<u8>>,
    ) -> Vec<Result<&'a [u8], ReadFault>> {
        let places: Vec<Option<Place<'_>>> = indexes.iter().map(|i| self.place(*i)).collect();
        let read = read_together(&places, buffers, || !self.watch.stopped());
        let bytes = |(i, read): (&usize, Option<&'a [u8]>)| match self.list.get(*i) {
            Some(Piece::Bytes(bytes)) => Ok(*bytes),
            _ => read.ok_or(ReadFault),
        };
        indexes.iter().zip(read).map(bytes).collect()
    }
}

impl Pieces<'_, '_> {
    fn place(&self, i: usize) -> Option<Place<'_>> {
        match self.list.get(i)? {
            Piece::Range {
                file: Some(file),
                offset,
                length,
            } => Some(Place {
                file,
                offset: *offset,
                length: *length,
            }),
            _ => None,
        }
    }
}

/// What a flow's keeper knows of it: last fixed position, last position, closed.
type Known = (Option<u64>, Option<u64>, Option<bool>);
type Asked<'a> = (&'a str, List<Term<'a>>, Option<Binary<'a>>, Known, bool, bool);

/// Whether a missing body is a fault, and how many faults are kept.
type Settings = (bool, usize);

/// Closed flows, whole: where their files lie, by number, and of each flow its last position and, for each container, the
/// file's number, the offset and the length, four bytes each.
type Sheaf<'a> = (List<(u32, &'a str)>, List<(&'a str, u64, Binary<'a>)>);

/// What is to be verified.
struct Work<'a> {
    files: Files<'a>,
    pieces: Vec<Piece<'a>>,
    runs: Vec<Run>,
    bodies: bool,
}

impl<'a> Work<'a> {
    fn of(asked: List<Term<'a>>, bodies: bool) -> NifResult<Work<'a>> {
        let mut work = Work {
            files: Files::default(),
            pieces: Vec::new(),
            runs: Vec::new(),
            bodies,
        };
        for term in asked {
            match term.decode::<Sheaf>() {
                Ok(sheaf) => work.add_sheaf(sheaf)?,
                Err(_) => work.add(term.decode()?)?,
            }
        }
        Ok(work)
    }

    fn add(&mut self, asked: Asked<'a>) -> NifResult<()> {
        let (flow, places, from, (fixed, last, closed), more, alone) = asked;
        let start = self.pieces.len();
        for place in places {
            self.pieces.push(piece(place, &mut self.files)?);
        }
        let from = from
            .map(|edge| Edge::decode(edge.as_slice()))
            .transpose()
            .map_err(|_| rustler::Error::BadArg)?;
        self.runs.push(Run {
            flow: flow.to_owned(),
            pieces: start..self.pieces.len(),
            from,
            expect: Expect {
                bodies: self.bodies,
                fixed,
                last,
                closed,
            },
            more,
            alone,
        });
        Ok(())
    }

    fn add_sheaf(&mut self, (paths, flows): Sheaf<'a>) -> NifResult<()> {
        let paths = paths
            .iter()
            .map(|(number, path)| (*number, self.files.open(path)));
        let files: HashMap<u32, Option<Arc<File>>> = paths.collect();
        for (flow, last, places) in flows {
            let start = self.pieces.len();
            let (places, []) = places.as_slice().as_chunks::<12>() else {
                return Err(rustler::Error::BadArg);
            };
            for place in places {
                let [number, offset, length] = numbers(place);
                let file = files.get(&number).ok_or(rustler::Error::BadArg)?.clone();
                self.pieces.push(Piece::Range {
                    file,
                    offset: offset.into(),
                    length: length as usize,
                });
            }
            let expect = Expect {
                bodies: self.bodies,
                fixed: Some(last),
                last: Some(last),
                closed: Some(true),
            };
            self.runs.push(Run {
                expect,
                ..Run::whole(flow, start..self.pieces.len())
            });
        }
        Ok(())
    }
}

fn numbers(place: &[u8; 12]) -> [u32; 3] {
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(place.as_chunks().0) {
        *number = u32::from_be_bytes(*bytes);
    }
    numbers
}

/// The files opened so far. Pieces that follow each other mostly lie in one.
#[derive(Default)]
pub struct Files<'a> {
    all: HashMap<&'a str, Option<Arc<File>>>,
    last: Option<(&'a str, Option<Arc<File>>)>,
}

impl<'a> Files<'a> {
    /// A file that cannot be opened is a fault of its pieces, not of the call.
    fn open(&mut self, path: &'a str) -> Option<Arc<File>> {
        match &self.last {
            Some((last, file)) if *last == path => file.clone(),
            _ => {
                let file = self
                    .all
                    .entry(path)
                    .or_insert_with(|| File::open(path).ok().map(Arc::new));
                self.last = Some((path, file.clone()));
                file.clone()
            }
        }
    }
}

pub fn piece<'a>(place: Term<'a>, files: &mut Files<'a>) -> NifResult<Piece<'a>> {
    if let Ok(bytes) = place.decode::<Binary<'a>>() {
        return Ok(Piece::Bytes(bytes.as_slice()));
    }
    if let Ok((tag, bytes)) = place.decode::<(Atom, Binary<'a>)>()
        && tag == atoms::binary()
    {
        return Ok(Piece::Bytes(bytes.as_slice()));
    }
    let (tag, path, offset, length): (Atom, &'a str, u64, usize) = place.decode()?;
    if tag != atoms::file() {
        return Err(rustler::Error::BadArg);
    }
    let file = files.open(path);
    Ok(Piece::Range { file, offset, length })
}

#[rustler::nif]
fn verify<'a>(
    env: Env<'a>,
    pool: ResourceArc<Pool>,
    flows: Term<'a>,
    settings: Settings,
    held: Option<ResourceArc<Held>>,
    tag: Term<'a>,
) -> ResourceArc<Job> {
    spawn(env, &pool, flows, tag, move |flows, watch| {
        let Work { pieces, runs, .. } = Work::of(flows.decode()?, settings.0)?;
        let pieces = Pieces { list: pieces, watch };
        Ok(match &held {
            None => verify_runs(&pieces, &runs, watch, settings.1),
            Some(held) => {
                let source = Against {
                    source: &pieces,
                    ledger: &held.read().ledger,
                };
                verify_runs(&source, &runs, watch, settings.1)
            }
        })
    })
}

/// The same for one interchange file's text.
#[rustler::nif]
fn verify_interchange<'a>(
    env: Env<'a>,
    pool: ResourceArc<Pool>,
    text: Binary<'a>,
    max_faults: usize,
    tag: Term<'a>,
) -> ResourceArc<Job> {
    spawn(env, &pool, text.to_term(env), tag, move |text, watch| {
        let text: Binary = text.decode()?;
        Ok(verify_file(text.as_slice(), watch, max_faults))
    })
}

/// The same for one archive, by its path.
#[rustler::nif]
fn verify_archive<'a>(
    env: Env<'a>,
    pool: ResourceArc<Pool>,
    path: Term<'a>,
    max_faults: usize,
    tag: Term<'a>,
) -> ResourceArc<Job> {
    spawn(env, &pool, path, tag, move |path, watch| {
        let file = File::open(path.decode::<&str>()?).map_err(|_| rustler::Error::BadArg)?;
        Ok(match Archive::open(&file) {
            Ok(archive) => archive.verify(watch, max_faults).1,
            Err(malformed) => no_archive(&malformed),
        })
    })
}

/// Runs `work` on the pool, over terms that are kept for it. The caller gets `{tag, :done, counts, faults, edges}`, or
/// `{tag, :failed, reason}`.
fn spawn<'a, F>(env: Env<'a>, pool: &Pool, given: Term<'a>, tag: Term<'a>, work: F) -> ResourceArc<Job>
where
    F: for<'b> FnOnce(Term<'b>, &Watch) -> NifResult<Verdict> + Send + 'static,
{
    let caller = env.pid();
    let mut own = OwnedEnv::new();
    let kept: (SavedTerm, SavedTerm) = (own.save(given), own.save(tag));
    let watch = Arc::new(Watch::new(pool.budget.clone()));
    let job = ResourceArc::new(Job(Arc::clone(&watch)));
    pool.threads.spawn(move || {
        let outcome = own.run(|env| {
            let given = kept.0.load(env);
            // The core does not panic; were it to, the caller must not wait for ever, nor the VM die.
            catch_unwind(AssertUnwindSafe(|| work(given, &watch)))
        });
        // A caller that is gone needs no answer.
        let _ = own.send_and_clear(&caller, |env| answer(env, kept.1.load(env), outcome));
    });
    job
}

type Outcome = std::thread::Result<NifResult<Verdict>>;

fn answer<'a>(env: Env<'a>, tag: Term<'a>, outcome: Outcome) -> Term<'a> {
    let failed = |reason: Atom| (tag, atoms::failed(), reason).encode(env);
    match outcome {
        Ok(Ok(verdict)) if verdict.stopped => failed(atoms::cancelled()),
        Ok(Ok(verdict)) => (
            tag,
            atoms::done(),
            counts(env, &verdict),
            faults(env, &verdict),
            edges(env, &verdict),
        )
            .encode(env),
        Ok(Err(_)) => failed(atoms::badarg()),
        Err(_) => failed(atoms::panicked()),
    }
}

fn counts<'a>(env: Env<'a>, verdict: &Verdict) -> Term<'a> {
    let looked_at = (
        verdict.flows,
        verdict.blocks,
        verdict.events,
        verdict.fixed,
        verdict.provisional,
    );
    let found = (
        verdict.bodies_verified,
        verdict.bodies_not_shown,
        verdict.bytes,
        verdict.fault_count,
    );
    (looked_at, found).encode(env)
}

fn faults<'a>(env: Env<'a>, verdict: &Verdict) -> Vec<Term<'a>> {
    let fault = |fault: &Fault| {
        let class = name(env, fault.class.name());
        (
            &fault.flow,
            fault.position,
            fault.block,
            class,
            datum(env, &fault.recorded),
            datum(env, &fault.recomputed),
        )
            .encode(env)
    };
    verdict.faults.iter().map(fault).collect()
}

fn edges<'a>(env: Env<'a>, verdict: &Verdict) -> Vec<Option<Term<'a>>> {
    verdict
        .edges
        .iter()
        .map(|edge| edge.as_ref().map(|edge| binary(env, &edge.encode())))
        .collect()
}

//! `event-seal bench`: how fast this machine hashes and verifies.

use crate::report::number;
use crate::{Status, json, thread_count, threads};
use event_seal_core::lanes::Path;
use event_seal_core::suite::Suite;
use event_seal_core::verify::{Run, Unwatched, verify};
use event_seal_load::{BLOCK, Flow, Inputs, lanes};
use serde::Serialize;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Options {
    /// Works on so many threads; as many as there are cores unless given
    #[arg(long, value_name = "N", value_parser = thread_count())]
    threads: Option<usize>,
    /// Reports as one JSON object
    #[arg(long)]
    json: bool,
    /// Only shows that it runs: the figures say nothing
    #[arg(long)]
    quick: bool,
}

const BODY: usize = 300;
const ROUNDS: usize = 11;

#[derive(Serialize)]
struct Bench {
    version: &'static str,
    machine: Machine,
    body_bytes: usize,
    events: usize,
    rounds: usize,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Machine {
    system: &'static str,
    architecture: &'static str,
    cpu: Option<String>,
    cores: usize,
    threads: usize,
    hashing: String,
    /// Built without optimisation: no figure means anything.
    debug: bool,
}

/// Events a second, of all rounds; and the bytes that were hashed for each.
#[derive(Serialize)]
struct Row {
    suite: &'static str,
    what: &'static str,
    median: u64,
    slowest: u64,
    fastest: u64,
    hashed_bytes_an_event: usize,
}

pub fn run(options: &Options, out: &mut impl Write) -> io::Result<Status> {
    let threads = threads(options.threads)?;
    let (events, rounds) = match options.quick {
        true => (BLOCK, 1),
        false => (BLOCK * (2 * threads).max(16), ROUNDS),
    };
    let bench = Bench {
        version: env!("CARGO_PKG_VERSION"),
        machine: machine(threads),
        body_bytes: BODY,
        events,
        rounds,
        rows: [Suite::Sha256, Suite::Blake3]
            .into_iter()
            .flat_map(|suite| rows(suite, events, rounds))
            .collect(),
    };
    if options.json {
        json::write(&bench, out)?;
    } else {
        print(&bench, out)?;
    }
    Ok(Status::Verified)
}

fn machine(threads: usize) -> Machine {
    Machine {
        system: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
        cpu: cpu(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads,
        hashing: format!("{:?}", Path::fastest()).to_lowercase(),
        debug: cfg!(debug_assertions),
    }
}

fn cpu() -> Option<String> {
    let about = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = about.lines().find(|line| line.starts_with("model name"))?;
    Some(model.split_once(':')?.1.trim().to_owned())
}

/// The hashing alone, over bytes that lie ready, and the verification of blocks in memory, in turn: what disturbs the
/// machine disturbs both.
fn rows(suite: Suite, events: usize, rounds: usize) -> Vec<Row> {
    let (inputs, each) = (Inputs::of(BODY, events), lanes(suite));
    let blocks = Flow::new(suite, "bench", events, BODY).blocks();
    let run = [Run::whole("bench", 0..blocks.len())];
    let (mut hashing, mut verification) = (Vec::new(), Vec::new());
    // The first round only warms up.
    for _ in 0..=rounds {
        hashing.push(rate(events, || inputs.hash_all(&each)));
        verification.push(rate(events, || {
            black_box(verify(blocks.as_slice(), &run, &Unwatched, 1));
        }));
    }
    vec![
        row(suite, "hashing", hashing, inputs.bytes_an_event()),
        row(suite, "verification", verification, inputs.bytes_an_event()),
    ]
}

fn rate(events: usize, work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    events as f64 / started.elapsed().as_secs_f64()
}

fn row(suite: Suite, what: &'static str, rates: Vec<f64>, bytes: usize) -> Row {
    let mut rates: Vec<u64> = rates.into_iter().skip(1).map(|rate| rate as u64).collect();
    rates.sort_unstable();
    let at = |i: usize| rates.get(i).copied().unwrap_or_default();
    Row {
        suite: suite.name(),
        what,
        median: at(rates.len() / 2),
        slowest: at(0),
        fastest: at(rates.len().saturating_sub(1)),
        hashed_bytes_an_event: bytes,
    }
}

fn print(bench: &Bench, out: &mut impl Write) -> io::Result<()> {
    let machine = &bench.machine;
    let cpu = machine.cpu.as_deref().unwrap_or("CPU not known");
    let (system, architecture, cores) = (machine.system, machine.architecture, machine.cores);
    writeln!(
        out,
        "event-seal {} on {system} {architecture}, {cpu}, cores: {cores}",
        bench.version
    )?;
    writeln!(
        out,
        "threads: {}, hashing by {}",
        machine.threads, machine.hashing
    )?;
    let (events, bytes, rounds) = (number(bench.events as u64), bench.body_bytes, bench.rounds);
    writeln!(
        out,
        "{events} events with bodies of {bytes} bytes, in memory; events/s, median of {rounds} (least to most)"
    )?;
    if machine.debug {
        writeln!(out, "BUILT WITHOUT OPTIMISATION: build with --release")?;
    }
    bench.rows.iter().try_for_each(|row| print_row(row, out))
}

fn print_row(row: &Row, out: &mut impl Write) -> io::Result<()> {
    let [median, slowest, fastest] = [row.median, row.slowest, row.fastest].map(number);
    let hashed = number(row.median * row.hashed_bytes_an_event as u64 / 1_000_000);
    let (suite, what) = (row.suite, row.what);
    writeln!(
        out,
        "  {suite:6}  {what:12}  {median:>11}  ({slowest} to {fastest}), {hashed} MB/s hashed"
    )
}

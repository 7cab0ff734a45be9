//! Verifying blocks in memory, and sealing them: both suites, a flow of many events and many of few, short and long bodies.
use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use event_seal_core::suite::Suite;
use event_seal_core::verify::{Run, Unwatched, verify};
use event_seal_load::{BLOCK, Flow};
use rayon::ThreadPoolBuilder;

const SUITES: [Suite; 2] = [Suite::Sha256, Suite::Blake3];

fn shapes(criterion: &mut Criterion) {
    for suite in SUITES {
        for (shape, flows, events, body) in [
            ("one flow, 100 B", 1, 50_000, 100),
            ("one flow, 300 B", 1, 50_000, 300),
            ("one flow, 1 KiB", 1, 20_000, 1024),
            ("one flow, 100 KiB", 1, 500, 102_400),
            ("flows of five, 300 B", 10_000, 5, 300),
        ] {
            let mut group = criterion.benchmark_group(format!("verify/{}/{shape}", suite.name()));
            group.throughput(Throughput::Elements(flows * events as u64));
            let (mut blocks, mut runs) = (Vec::new(), Vec::new());
            for i in 0..flows {
                let flow = format!("patient/{i}");
                let start = blocks.len();
                blocks.extend(Flow::new(suite, &flow, events, body).blocks());
                runs.push(Run::whole(&flow, start..blocks.len()));
            }
            for (name, threads) in [("one core", 1), ("all cores", 0)] {
                on(&mut group, name, threads, &blocks, &runs);
            }
            group.finish();
        }
    }
}

fn on(group: &mut BenchmarkGroup<WallTime>, name: &str, threads: usize, blocks: &[Vec<u8>], runs: &[Run]) {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let verdict = pool.install(|| verify(blocks, runs, &Unwatched, 1));
            assert_eq!(verdict.fault_count, 0);
        });
    });
}

fn sealing(criterion: &mut Criterion) {
    for suite in SUITES {
        let mut group = criterion.benchmark_group(format!("seal/{}", suite.name()));
        group.throughput(Throughput::Elements(BLOCK as u64));
        let flow = Flow::new(suite, "patient/1", BLOCK, 300);
        group.bench_function("a block", |bencher| {
            bencher.iter(|| black_box(&flow).block(0, None))
        });
        group.bench_function("settled and sealed", |bencher| {
            bencher.iter(|| Flow::new(suite, "patient/1", BLOCK, 300).block(0, None));
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    shapes(&mut criterion);
    sealing(&mut criterion);
}

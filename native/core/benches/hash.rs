//! Hashing many inputs of equal length, by every path that this CPU has, beside the crates alone.
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use event_seal_core::lanes::Path;
use event_seal_core::suite::{Role, Suite, hash_each_by};
use sha2::Digest as _;

const COUNT: usize = 512;
/// A node, a short frame, a link, and bodies of 232, 300, 1,000, 2,000 and 100,000 bytes.
const LENGTHS: [usize; 8] = [64, 128, 256, 320, 384, 1024, 2048, 100_032];

fn hash(criterion: &mut Criterion) {
    for length in LENGTHS {
        let count = COUNT.min((1 << 24) / length);
        let bytes: Vec<u8> = (0..count * length).map(|i| (i % 251) as u8).collect();
        let inputs: Vec<&[u8]> = bytes.chunks_exact(length).collect();
        let mut group = criterion.benchmark_group(format!("hash/{length}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut each = |name: String, path: Path, suite: Suite| {
            let mut digests = Vec::new();
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    digests.clear();
                    hash_each_by(path, suite, Role::Link, black_box(&inputs), &mut digests);
                });
            });
        };
        for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
            each(format!("sha256/{path:?}"), path, Suite::Sha256);
        }
        each("blake3/Lanes".into(), Path::fastest(), Suite::Blake3);
        let mut alone = |name: &str, one: fn(&[u8])| {
            group.bench_function(name, |bencher| {
                bencher.iter(|| inputs.iter().for_each(|input| one(black_box(input))));
            });
        };
        alone("sha2 alone", |input| {
            black_box(sha2::Sha256::digest(input));
        });
        alone("blake3 alone", |input| {
            black_box(blake3::hash(input));
        });
        group.finish();
    }
}

fn main() {
    hash(&mut Criterion::default().configure_from_args());
}

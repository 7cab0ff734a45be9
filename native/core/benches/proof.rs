//! A proof of one event of a full block, in a log of a million leaves: made, and verified with its witness.
use std::hint::black_box;

use criterion::Criterion;
use event_seal_core::block::Container;
use event_seal_core::checkpoint::{Policy, cosign, sign};
use event_seal_core::log::{Frontier, Leaf, Plan, leaf_hash};
use event_seal_core::note::{Note, Purpose, Signer};
use event_seal_core::proof::{Logged, make, verify};
use event_seal_core::suite::{Digest, Suite};
use event_seal_load::{BLOCK, Flow};
const LEAVES: u64 = 1_000_000;

struct Log {
    frontier: Frontier,
    stored: Vec<Digest>,
}

impl Log {
    /// The block's leaf first, then others.
    fn of(block: &Container) -> Log {
        let mut log = Log {
            frontier: Frontier::default(),
            stored: Vec::new(),
        };
        for height in 0..LEAVES {
            let leaf = Leaf::Block {
                suite: block.header().suite,
                genesis: block.header().genesis,
                height,
                last: block.last(),
                hash: *block.hash(),
            };
            let hash = leaf_hash(&leaf.encode());
            log.frontier.push(hash, &mut log.stored).expect("room");
        }
        log
    }

    fn path(&self, index: u64) -> Vec<Digest> {
        let plan = Plan::inclusion(index, LEAVES).expect("a leaf");
        plan.path(|at| self.stored.get(at as usize).copied().ok_or(at))
            .expect("stored")
    }
}

/// The log's key, a witness's, and a policy that asks for both.
fn trusted() -> (Signer, Signer, Policy) {
    let signer = |name, purpose, seed| Signer::new(name, purpose, &[seed; 32]).expect("a key");
    let log = signer("clinic.example/log", Purpose::Log, 1);
    let witness = signer("witness.example/w", Purpose::Witness, 2);
    let keys = |signer: &Signer| vec![signer.verifier().clone()];
    let policy = Policy::new(keys(&log), keys(&witness), 1).expect("a policy");
    (log, witness, policy)
}

fn of_suite(criterion: &mut Criterion, suite: Suite) {
    let (key, witness, policy) = trusted();
    let packed = Flow::new(suite, "patient/1", BLOCK, 300).blocks().remove(0);
    let log = Log::of(&Container::decode(&packed).expect("a block"));
    let note = sign(&key, log.frontier.size(), log.frontier.root()).expect("signed");
    let line = cosign(&witness, &note, 0).expect("cosigned");
    let checkpoint = Note::parse(&note)
        .and_then(|note| note.with(&line))
        .expect("a note");
    let prove = || {
        let block = Container::decode(black_box(&packed)).expect("a block");
        let logged = Logged {
            index: 0,
            path: &log.path(0),
            checkpoint: &checkpoint,
        };
        make(&block, BLOCK as u64 / 2, false, &logged).expect("a proof")
    };
    let proof = prove();
    println!("proof/{}: {} bytes without the body", suite.name(), proof.len());
    let mut group = criterion.benchmark_group(format!("proof/{}", suite.name()));
    group.bench_function("made", |bencher| bencher.iter(prove));
    group.bench_function("verified", |bencher| {
        bencher.iter(|| verify(black_box(proof.as_bytes()), &policy).expect("a proof"));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().sample_size(50).configure_from_args();
    of_suite(&mut criterion, Suite::Sha256);
    of_suite(&mut criterion, Suite::Blake3);
}

//! The vectors in a log of their own, its proofs, and how their texts are read and changed.
use std::convert::Infallible;
use std::sync::LazyLock;

use crate::block::Container;
use crate::checkpoint::{Policy, cosign, sign};
use crate::log::{Frontier, Leaf, Plan, leaf_hash};
use crate::note::{Note, Purpose, Signer};
use crate::proof::{Logged, MakeError, Proven, Refused, make, verify};
use crate::suite::Digest;
use crate::tests::vectors::{self, Vector};

pub const ORIGIN: &str = "clinic.example/log";

pub fn signer(name: &str, purpose: Purpose, seed: u8) -> Signer {
    Signer::new(name, purpose, &[seed; 32]).unwrap()
}

pub fn log_key() -> Signer {
    signer(ORIGIN, Purpose::Log, 1)
}

pub fn witness() -> Signer {
    signer("witness.example/w", Purpose::Witness, 2)
}

/// The log's key and one witness, who must have signed.
pub fn policy() -> Policy {
    let (log, witness) = (log_key(), witness());
    Policy::new(vec![log.verifier().clone()], vec![witness.verifier().clone()], 1).unwrap()
}

pub static POLICY: LazyLock<Policy> = LazyLock::new(policy);

pub fn prove(text: &str) -> Result<Proven<'_>, Refused> {
    verify(text.as_bytes(), &POLICY)
}

/// A log in memory.
#[derive(Default)]
pub struct Log {
    pub frontier: Frontier,
    pub stored: Vec<Digest>,
}

impl Log {
    pub fn add(&mut self, leaf: &Leaf) -> u64 {
        self.frontier
            .push(leaf_hash(&leaf.encode()), &mut self.stored)
            .unwrap();
        self.frontier.size() - 1
    }

    pub fn add_block(&mut self, block: &Container) -> u64 {
        let header = block.header();
        self.add(&Leaf::Block {
            suite: header.suite,
            genesis: header.genesis,
            height: header.height,
            last: header.last(),
            hash: *block.hash(),
        })
    }

    pub fn path(&self, index: u64) -> Vec<Digest> {
        let read = |at: u64| Ok::<_, Infallible>(self.stored[at as usize]);
        let Ok(path) = Plan::inclusion(index, self.frontier.size()).unwrap().path(read);
        path
    }

    pub fn checkpoint(&self) -> String {
        let note = sign(&log_key(), self.frontier.size(), self.frontier.root()).unwrap();
        let line = cosign(&witness(), &note, 1_700_000_000).unwrap();
        Note::parse(&note).unwrap().with(&line).unwrap()
    }

    pub fn prove(&self, block: &Container, index: u64, n: u64, show: bool) -> Result<String, MakeError> {
        self.prove_by(&self.checkpoint(), block, index, n, show)
    }

    pub fn prove_by(
        &self,
        checkpoint: &str,
        block: &Container,
        index: u64,
        n: u64,
        show: bool,
    ) -> Result<String, MakeError> {
        let path = self.path(index);
        let logged = Logged {
            index,
            path: &path,
            checkpoint,
        };
        make(block, n, show, &logged)
    }
}

/// Every vector, its packed blocks and tails, and the log's number of each block.
pub struct Archive {
    pub log: Log,
    pub checkpoint: String,
    pub flows: Vec<(Vector, Vec<Vec<u8>>, Vec<u64>)>,
}

pub static ARCHIVE: LazyLock<Archive> = LazyLock::new(|| {
    let mut log = Log::default();
    let add = |vector: Vector| {
        let pieces = vectors::seal_fast(&vector, 100);
        let mut indexes = Vec::new();
        for piece in &pieces {
            let container = Container::decode(piece).unwrap();
            if container.is_tail() {
                log.add(&Leaf::Tail {
                    suite: container.header().suite,
                    genesis: container.header().genesis,
                    n: container.last(),
                    provisional: *container.ids().last().unwrap(),
                });
            } else {
                indexes.push(log.add_block(&container));
            }
        }
        (vector, pieces, indexes)
    };
    let flows = vectors::all().into_iter().map(add).collect();
    Archive {
        checkpoint: log.checkpoint(),
        log,
        flows,
    }
});

impl Archive {
    /// Every proof there is of the vectors that are asked for: the vector, the position and the text.
    pub fn proofs(&self, show: bool, asked: impl Fn(&str) -> bool) -> Vec<(&Vector, u64, String)> {
        let mut proofs = Vec::new();
        for (vector, pieces, indexes) in self.flows.iter().filter(|(vector, ..)| asked(&vector.name)) {
            for (piece, index) in pieces.iter().zip(indexes) {
                let block = Container::decode(piece).unwrap();
                for n in block.header().first..=block.last() {
                    let text = self.log.prove_by(&self.checkpoint, &block, *index, n, show);
                    proofs.push((vector, n, text.unwrap()));
                }
            }
        }
        proofs
    }

    pub fn proof(&self, name: &str, n: u64, show: bool) -> String {
        let mut proofs = self.proofs(show, |asked| asked == name).into_iter();
        proofs.find(|(_, at, _)| *at == n).unwrap().2
    }
}

/// One proof of each kind: open with three before and after and a path, shown and not; the last of a closed flow; and the
/// first and only one.
pub static SAMPLES: LazyLock<[String; 4]> = LazyLock::new(|| {
    [
        ARCHIVE.proof("sha256-40.jsonl", 9, true),
        ARCHIVE.proof("blake3-40.jsonl", 10, false),
        ARCHIVE.proof("blake3-12-closed.jsonl", 12, true),
        ARCHIVE.proof("sha256-1-closed.jsonl", 1, false),
    ]
});

pub fn refusal(text: &str) -> Refused {
    match prove(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(refused) => refused,
    }
}

pub fn what(text: &str) -> &'static str {
    match refusal(text) {
        Refused::Malformed(malformed) => malformed.what,
        other => panic!("{other:?}"),
    }
}

/// The text with the value of a key's first line changed.
pub fn with(text: &str, key: &str, value: &str) -> String {
    let at = text.find(&format!("\n{key} ")).unwrap() + 1 + key.len() + 1;
    let end = at + text[at..].find('\n').unwrap();
    [&text[..at], value, &text[end..]].concat()
}

pub fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{key} ")))
        .unwrap();
    &line[key.len() + 1..]
}

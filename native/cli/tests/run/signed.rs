//! A log of one flow's blocks, signed and cosigned.

use event_seal_core::archive::Preamble;
use event_seal_core::block::Container;
use event_seal_core::checkpoint::{Request, cosign, sign};
use event_seal_core::log::{Frontier, Leaf, Plan, leaf_hash};
use event_seal_core::note::{Note, Purpose, Signer};
use event_seal_core::proof::{Logged, make, tlog};
use event_seal_core::suite::Suite;
use event_seal_load::Flow;
use std::convert::Infallible;

pub const FLOW: &str = "patient/7";

pub fn signer(name: &str, purpose: Purpose, seed: u8) -> Signer {
    Signer::new(name, purpose, &[seed; 32]).unwrap()
}

pub fn log_key() -> Signer {
    signer("clinic.example/log", Purpose::Log, 1)
}

pub fn witness() -> Signer {
    signer("witness.example/w", Purpose::Witness, 2)
}

pub fn key(signer: &Signer) -> String {
    signer.verifier().to_string()
}

pub struct Signed {
    pub blocks: Vec<Vec<u8>>,
    leaves: Vec<Vec<u8>>,
    stored: Vec<[u8; 32]>,
    roots: Vec<[u8; 32]>,
}

impl Signed {
    /// A closed flow of 15 events in three blocks.
    pub fn new() -> Signed {
        let blocks = Flow::new(Suite::Sha256, FLOW, 15, 40).blocks_of(5);
        let (mut frontier, mut stored) = (Frontier::default(), Vec::new());
        let (mut roots, mut leaves) = (vec![frontier.root()], Vec::new());
        for block in &blocks {
            let block = Container::decode(block).unwrap();
            let header = block.header();
            let leaf = Leaf::Block {
                suite: header.suite,
                genesis: header.genesis,
                height: header.height,
                last: header.last(),
                hash: *block.hash(),
            };
            frontier.push(leaf_hash(&leaf.encode()), &mut stored).unwrap();
            roots.push(frontier.root());
            leaves.push(leaf.encode());
        }
        Signed {
            blocks,
            leaves,
            stored,
            roots,
        }
    }

    /// The checkpoint over so many leaves, by this key.
    pub fn checkpoint_by(&self, signer: &Signer, size: u64) -> String {
        let note = sign(signer, size, self.roots[size as usize]).unwrap();
        let line = cosign(&witness(), &note, 1_700_000_000).unwrap();
        Note::parse(&note).unwrap().with(&line).unwrap()
    }

    pub fn checkpoint(&self, size: u64) -> String {
        self.checkpoint_by(&log_key(), size)
    }

    fn path(&self, index: u64) -> Vec<[u8; 32]> {
        let read = |at: u64| Ok::<_, Infallible>(self.stored[at as usize]);
        Plan::inclusion(index, 3).unwrap().path(read).unwrap()
    }

    /// The archive of the whole flow, its block of this height proven.
    pub fn archive(&self, height: u64) -> Vec<u8> {
        let proof = tlog::Proof {
            index: height,
            path: self.path(height),
            checkpoint: &self.checkpoint(3),
        };
        self.archive_with(height, &proof.text())
    }

    pub fn archive_with(&self, height: u64, proof: &str) -> Vec<u8> {
        let containers = self.blocks.concat();
        let preamble = Preamble {
            containers: containers.len() as u64,
            proof: proof.len() as u64,
            height,
            part: false,
        };
        [preamble.encode(), containers, proof.as_bytes().to_vec()].concat()
    }

    /// The log, under checkpoints of these sizes.
    pub fn log(&self, sizes: &[u64]) -> Vec<u8> {
        let key = key(&log_key());
        let checkpoints = sizes.iter().map(|size| {
            let length = (key.len() as u16).to_be_bytes();
            [&length, key.as_bytes(), self.checkpoint(*size).as_bytes()].concat()
        });
        let mut out = b"EVSEALL1".to_vec();
        out.extend((self.leaves.len() as u64).to_be_bytes());
        out.extend((sizes.len() as u64).to_be_bytes());
        out.resize(64, 0);
        for item in self.leaves.iter().cloned().chain(checkpoints) {
            out.extend((item.len() as u32).to_be_bytes());
            out.extend(item);
        }
        out
    }

    /// The proof of one event.
    pub fn proof(&self, n: u64, show: bool) -> String {
        let index = (n - 1) / 5;
        let block = Container::decode(&self.blocks[index as usize]).unwrap();
        let (path, checkpoint) = (self.path(index), self.checkpoint(3));
        let logged = Logged {
            index,
            path: &path,
            checkpoint: &checkpoint,
        };
        make(&block, n, show, &logged).unwrap()
    }

    /// What a witness is asked.
    pub fn request(&self, old: u64, checkpoint: &str) -> String {
        let read = |at: u64| Ok::<_, Infallible>(self.stored[at as usize]);
        let path = Plan::consistency(old, 3).unwrap().path(read).unwrap();
        Request {
            old,
            path,
            checkpoint,
        }
        .text()
    }
}

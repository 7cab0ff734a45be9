//! A flow, or a part of one, in one file: its containers, and what proves them under a checkpoint. FORMAT.md, "Archive".
//!
//! [`Archive::verify`] recomputes the chain, [`Archive::signed`] leads from one of its blocks to the log's root. One block
//! is enough: its header holds the hash of the block before, and so on down to the flow's first.
use crate::block::Container;
use crate::checkpoint::{Checkpoint, Policy};
use crate::log::{Leaf, leaf_hash, root_over};
use crate::note::Note;
use crate::proof::{Refused, tlog};
use crate::suite::Digest;
use crate::verify::{Control, Datum, Fault, FaultClass, ReadAt, Verdict};
use crate::wire::Malformed;

mod containers;
mod disclose;
mod log_file;
mod preamble;

pub use containers::{Containers, Extent, Window};
pub use disclose::{Disclose, disclose};
pub use log_file::{Item, LOG_MAGIC, LogFile, LogVerdict};
pub use preamble::{MAGIC, PREAMBLE, Preamble};

/// An archive whose sizes are read.
pub struct Archive<'f, F: ?Sized> {
    file: &'f F,
    preamble: Preamble,
}

/// What an archive's log proof says, once it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The height of the proven block, and the position of its last event: what stands behind it is not proven.
    pub height: u64,
    /// See `height`.
    pub last: u64,
    /// Where its leaf is in the log.
    pub index: u64,
    /// The log's name.
    pub origin: String,
    /// How many leaves the log had.
    pub size: u64,
    /// The names of the keys that the signatures claim to be of. None of this is checked.
    pub names: Vec<String>,
    /// Whose signatures held; none where no policy was asked.
    pub by: Option<By>,
}

/// Whose signatures held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// The log's verifier key.
    pub log: String,
    /// Each witness's verifier key, and when it signed, in seconds since the UNIX epoch.
    pub witnesses: Vec<(String, u64)>,
}

impl<'f, F: ReadAt + ?Sized> Archive<'f, F> {
    /// Reads the sizes; the file is as long as they say.
    pub fn open(file: &'f F) -> Result<Self, Malformed> {
        let mut buffer = Vec::new();
        let bytes = file.read_at(0..file.length().min(PREAMBLE), &mut buffer);
        let preamble = Preamble::decode(bytes.map_err(|_| Malformed::new(0, "read"))?)?;
        if preamble.length() != Some(file.length()) {
            return Err(Malformed::new(8, "length"));
        }
        Ok(Self { file, preamble })
    }

    /// What the file begins with.
    pub fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// The containers.
    pub fn containers(&self) -> Containers<'f, F> {
        let extent = Extent {
            part: self.preamble.part,
            bodies: false,
        };
        Containers::of(self.file, PREAMBLE..self.proof_at(), extent)
    }

    /// Recomputes the chain. Signatures are not looked at. Returns the flow's id too.
    pub fn verify(&self, control: &dyn Control, max_faults: usize) -> (String, Verdict) {
        self.containers().verify(control, max_faults)
    }

    /// The log proof's text, if there is one.
    pub fn proof(&self) -> Result<Option<String>, Malformed> {
        if self.preamble.proof == 0 {
            return Ok(None);
        }
        let mut buffer = Vec::new();
        let bytes = self
            .file
            .read_at(self.proof_at()..self.file.length(), &mut buffer);
        let bytes = bytes.map_err(|_| Malformed::new(0, "read"))?;
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) => Err(Malformed::new(error.valid_up_to(), "utf-8")),
        }
    }

    /// Follows the log proof from its block to the checkpoint's root, and asks the policy whether that is signed as it
    /// should be. None if the archive has no proof. It says something of the blocks before only if [`Archive::verify`] has
    /// found no fault.
    pub fn signed(&self, policy: Option<&Policy>) -> Result<Option<Signed>, Refused> {
        let Some(text) = self.proof()? else {
            return Ok(None);
        };
        let logged = tlog::Proof::parse(&text)?;
        let mut buffer = Vec::new();
        let containers = self.containers();
        let block = containers.block(self.preamble.height, &mut buffer)?;
        let by = match policy {
            Some(policy) => Some(by(policy, logged.checkpoint)?),
            None => None,
        };
        let note = Note::parse(logged.checkpoint)?;
        let checkpoint = Checkpoint::parse(note.text)?;
        let root = root_over(leaf(&block), logged.index, checkpoint.size, &logged.path);
        if root.ok_or(Refused::LogPath)? != checkpoint.root {
            return Err(Refused::Root);
        }
        Ok(Some(Signed {
            height: self.preamble.height,
            last: block.last(),
            index: logged.index,
            origin: checkpoint.origin.to_owned(),
            size: checkpoint.size,
            names: note.signatures.iter().map(|line| line.name.to_owned()).collect(),
            by,
        }))
    }

    fn proof_at(&self) -> u64 {
        PREAMBLE.saturating_add(self.preamble.containers)
    }
}

/// What is said of a file whose sizes are not those of an archive.
pub fn no_archive(malformed: &Malformed) -> Verdict {
    let fault = Fault {
        flow: String::new(),
        position: 1,
        block: None,
        class: FaultClass::Format,
        recorded: malformed.at.into(),
        recomputed: Datum::None,
    };
    Verdict {
        fault_count: 1,
        faults: vec![fault],
        ..Verdict::default()
    }
}

fn by(policy: &Policy, checkpoint: &str) -> Result<By, Refused> {
    let opened = policy.open(checkpoint).map_err(Refused::Checkpoint)?;
    let witnesses = opened.cosignatures.iter();
    Ok(By {
        log: opened.log.to_string(),
        witnesses: witnesses.map(|one| (one.witness.to_string(), one.time)).collect(),
    })
}

/// The leaf of a block by what its header hashes to, whatever hash is recorded.
fn leaf(block: &Container<'_>) -> Digest {
    let header = block.header();
    let leaf = Leaf::Block {
        suite: header.suite,
        genesis: header.genesis,
        height: header.height,
        last: header.last(),
        hash: header.digest(),
    };
    leaf_hash(&leaf.encode())
}

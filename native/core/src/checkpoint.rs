//! Checkpoints (C2SP tlog-checkpoint) and cosignatures (C2SP tlog-cosignature). FORMAT.md, "Checkpoints".
use crate::log::{SIZE_MAX, empty_root};
use crate::note::{Note, Purpose, Signer, VerifierKey};
use crate::suite::Digest;
use crate::wire::lines::Lines;
use crate::wire::text::{decimal, from_base64, to_base64};
use crate::wire::{Malformed, has_control};

mod policy;
mod request;

pub use policy::{Cosignature, Opened, Policy, PolicyError, Refused};
pub use request::Request;

/// Latest time of a cosignature, in seconds.
const TIME_MAX: u64 = i64::MAX as u64;

/// What a checkpoint says: the log of this origin had this size and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// Names the log.
    pub origin: &'a str,
    /// How many leaves it had.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// The key is for something else.
    Purpose,
    /// The size or the time is out of its range, or an empty log has another root than that of no leaves.
    Range,
    /// What is to be cosigned is not a checkpoint.
    Malformed(Malformed),
}

impl<'a> Checkpoint<'a> {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, to_base64(&self.root))
    }

    /// Reads a note's text. Lines behind the root are signed with it and say nothing here.
    pub fn parse(text: &'a str) -> Result<Checkpoint<'a>, Malformed> {
        let mut lines = Lines::new(text);
        let origin = lines.line_as("origin", plain)?;
        let size = lines.line_as("size", |line| decimal(line).filter(|size| *size <= SIZE_MAX))?;
        let root = lines.line_as("root", |line| {
            from_base64(line)?
                .try_into()
                .ok()
                .filter(|root| may_be(size, root))
        })?;
        while !lines.rest().is_empty() {
            lines.line_as("extension", plain)?;
        }
        Ok(Checkpoint { origin, size, root })
    }
}

/// A line that says something and holds no control character.
fn plain(line: &str) -> Option<&str> {
    (!line.is_empty() && !has_control(line)).then_some(line)
}

/// Whether a log of this size may have this root: an empty one has that of no leaves.
fn may_be(size: u64, root: &Digest) -> bool {
    size > 0 || *root == empty_root()
}

/// The text of a checkpoint of this log, to be signed by its key.
pub fn text(key: &VerifierKey, size: u64, root: Digest) -> Result<String, SignError> {
    if key.purpose() != Purpose::Log {
        return Err(SignError::Purpose);
    }
    if size > SIZE_MAX || !may_be(size, &root) {
        return Err(SignError::Range);
    }
    let origin = key.name();
    Ok(Checkpoint { origin, size, root }.text())
}

/// A checkpoint of the log whose origin is the key's name, signed.
pub fn sign(signer: &Signer, size: u64, root: Digest) -> Result<String, SignError> {
    let text = text(signer.verifier(), size, root)?;
    let line = signer.line(&[], text.as_bytes());
    Ok(format!("{text}\n{line}"))
}

/// A witness's signature line for a checkpoint, at a time in seconds since the UNIX epoch. Whoever calls this has seen
/// that the checkpoint is consistent with what was cosigned before.
pub fn cosign(signer: &Signer, note: &str, time: u64) -> Result<String, SignError> {
    if signer.verifier().purpose() != Purpose::Witness {
        return Err(SignError::Purpose);
    }
    if time > TIME_MAX {
        return Err(SignError::Range);
    }
    let note = Note::parse(note).map_err(SignError::Malformed)?;
    Checkpoint::parse(note.text).map_err(SignError::Malformed)?;
    Ok(signer.line(&time.to_be_bytes(), &cosigned(note.text, time)))
}

/// What a witness signs: a checkpoint's text at a time.
pub fn cosigned(text: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

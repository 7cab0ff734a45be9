//! Making a proof from a sealed block and its place in the log.
use super::{Content, Proof, count_after, count_before, tlog};
use crate::block::{Body, Container, Header};
use crate::checkpoint::Checkpoint;
use crate::event::{Event, decode_salted_body};
use crate::genesis::Genesis;
use crate::merkle;
use crate::note::Note;
use crate::suite::Digest;
use crate::wire::Malformed;

/// Where the block's leaf stands in the log.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a> {
    /// Its number, from 0.
    pub index: u64,
    /// The way from it to the checkpoint's root.
    pub path: &'a [Digest],
    /// The checkpoint.
    pub checkpoint: &'a str,
}

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakeError {
    /// A tail is not sealed.
    Tail,
    /// The block has no such position.
    Position,
    /// The body is to be shown and is not there.
    Body,
    /// Something in the block or the checkpoint is not of format 1.
    Malformed(Malformed),
    /// The block does not hash to what it records.
    Block,
    /// The path does not lead from the block to the checkpoint's root.
    Log,
}

impl From<Malformed> for MakeError {
    fn from(malformed: Malformed) -> MakeError {
        MakeError::Malformed(malformed)
    }
}

/// The proof of the event at position n, with its body or without. It is not handed out unless everything in it leads
/// to the checkpoint's root; whether that is signed rightly is not looked at.
pub fn make(block: &Container<'_>, n: u64, show: bool, logged: &Logged<'_>) -> Result<String, MakeError> {
    if block.is_tail() {
        return Err(MakeError::Tail);
    }
    let i = n.checked_sub(block.header().first).ok_or(MakeError::Position)? as usize;
    if i >= block.count() {
        return Err(MakeError::Position);
    }
    let genesis = Genesis::decode(block.genesis_record())?;
    let event = block.event(i)?;
    let content = content(block, i, &event, show)?;
    let proof = Proof {
        n,
        event: Event {
            commitment: content.commitment(genesis.suite),
            ..event
        },
        genesis,
        content,
        header: header(block.header()),
        ids_before: before(block, n),
        hashes_after: after(block, n),
        path: merkle::path(block.header().suite, block.ids(), i).ok_or(MakeError::Position)?,
        logged: tlog::Proof {
            index: logged.index,
            path: logged.path.to_vec(),
            checkpoint: logged.checkpoint,
        },
    };
    check(&proof, block.hash())?;
    Ok(proof.text())
}

fn content(block: &Container<'_>, i: usize, event: &Event<'_>, show: bool) -> Result<Content, MakeError> {
    if !show {
        return Ok(Content::NotShown(event.commitment));
    }
    let Body::Shown(salted) = block.body(i) else {
        return Err(MakeError::Body);
    };
    let (salt, body) = decode_salted_body(salted)?;
    Ok(Content::Shown {
        salt: *salt,
        body: body.to_vec(),
    })
}

/// The header without what is recomputed.
fn header(header: &Header) -> Header {
    Header {
        genesis: [0; 32],
        root: [0; 32],
        previous: if header.height == 0 {
            [0; 32]
        } else {
            header.previous
        },
        ..header.clone()
    }
}

/// The ids before position n that exist.
fn before(block: &Container<'_>, n: u64) -> Vec<Digest> {
    // The first that is known is that of the third position before the block.
    let known = block.seams().ids.iter().chain(block.ids());
    let count = count_before(n);
    let start = n
        .saturating_sub(block.header().first)
        .saturating_add(3)
        .saturating_sub(count);
    known.skip(start as usize).take(count as usize).copied().collect()
}

/// The event hashes after position n that exist.
fn after(block: &Container<'_>, n: u64) -> Vec<Digest> {
    let known = block.hashes().iter().chain(&block.seams().next_hashes);
    let behind = n.saturating_sub(block.header().first).saturating_add(1);
    let count = count_after(n, block.header());
    known
        .skip(behind as usize)
        .take(count as usize)
        .copied()
        .collect()
}

/// What is handed out leads where it should.
fn check(proof: &Proof<'_>, recorded: &Digest) -> Result<(), MakeError> {
    let digests = proof.digests().filter(|digests| digests.block == *recorded);
    let digests = digests.ok_or(MakeError::Block)?;
    let note = Note::parse(proof.logged.checkpoint)?;
    let checkpoint = Checkpoint::parse(note.text)?;
    let root = proof.log_root(&digests, checkpoint.size);
    if root == Some(checkpoint.root) {
        Ok(())
    } else {
        Err(MakeError::Log)
    }
}

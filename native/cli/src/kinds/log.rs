//! A store's log. FORMAT.md, "Log file".

use super::containers::versioned;
use super::{Checked, Claim, Kind, MAX_FAULTS};
use crate::opened::Opened;
use crate::report::hex;
use crate::show::Printer;
use crate::trust::{Signed, checkpoint_refusal};
use event_seal_core::archive::{Item, LogFile, LogVerdict, no_archive};
use event_seal_core::checkpoint::{Checkpoint, Policy};
use event_seal_core::log::Leaf;
use event_seal_core::note::Note;
use event_seal_core::verify::{Unwatched, Verdict};
use serde::Serialize;
use std::io;

pub const KIND: Kind = Kind {
    name: "log",
    allowed: "logs, which begin with EVSEALL1",
    claims,
    passes: 2,
    needs_key: false,
    verify,
    show,
};

/// What is in a log.
#[derive(Clone, Copy, Serialize)]
pub struct Log {
    pub leaves: u64,
    pub unknown: u64,
    pub checkpoints: u64,
}

fn claims(beginning: &[u8]) -> Option<Claim> {
    versioned(beginning, b"L")
}

fn verify(file: &Opened, policy: Option<&Policy>) -> Checked {
    let log = match LogFile::open(file) {
        Ok(log) => log.verify(&Unwatched, MAX_FAULTS),
        Err(malformed) => return Checked::unsigned(String::new(), no_archive(&malformed), false),
    };
    let signed = log.last.as_deref().map(|note| signed(note, policy));
    let counts = Log {
        leaves: log.leaves,
        unknown: log.unknown,
        checkpoints: log.checkpoints,
    };
    Checked {
        log: Some(counts),
        ..Checked::unsigned(String::new(), verdict(log), false).with(signed.transpose())
    }
}

fn verdict(log: LogVerdict) -> Verdict {
    Verdict {
        faults: log.faults,
        fault_count: log.fault_count,
        ..Verdict::default()
    }
}

/// By whom the last checkpoint is signed; the keys that the file itself names show nothing.
fn signed(note: &str, policy: Option<&Policy>) -> Result<Signed, String> {
    let none = |_| "its last checkpoint cannot be read".to_owned();
    let read = Note::parse(note).map_err(none)?;
    let checkpoint = Checkpoint::parse(read.text).map_err(none)?;
    let opened = policy.map(|policy| policy.open(note)).transpose();
    let opened = opened.map_err(|refused| checkpoint_refusal(&refused))?;
    let witnesses = opened.iter().flat_map(|opened| &opened.cosignatures);
    Ok(Signed {
        origin: checkpoint.origin.to_owned(),
        size: checkpoint.size,
        index: None,
        through: None,
        names: read.signatures.iter().map(|line| line.name.to_owned()).collect(),
        witnesses: witnesses.map(|one| (one.witness.to_string(), one.time)).collect(),
        key: opened.map(|opened| opened.log.to_string()),
    })
}

fn show(file: &Opened, printer: &mut Printer<'_>) -> io::Result<()> {
    let log = match LogFile::open(file) {
        Ok(log) => log,
        Err(malformed) => return printer.malformed("log", &malformed),
    };
    let mut shown = Ok(());
    let each = log.each(&Unwatched, |number, item| {
        if shown.is_ok() {
            shown = match item {
                Item::Leaf(data) => printer.line(&format!("leaf {number}: {}", leaf(data))),
                Item::Checkpoint(item) => printer.checkpoint(&String::from_utf8_lossy(note(item))),
            };
        }
    });
    shown?;
    match each {
        Ok(()) => Ok(()),
        Err((number, malformed)) => printer.malformed(&format!("item {number}"), &malformed),
    }
}

/// A kept checkpoint's note, behind the text of its key.
fn note(item: &[u8]) -> &[u8] {
    let note = item
        .split_first_chunk::<2>()
        .and_then(|(length, rest)| rest.get(usize::from(u16::from_be_bytes(*length))..));
    note.unwrap_or(item)
}

fn leaf(data: &[u8]) -> String {
    match Leaf::decode(data) {
        Ok(Leaf::Block {
            genesis,
            height,
            last,
            hash,
            ..
        }) => {
            format!(
                "block {height} up to position {last} of {}, hash {}",
                hex(&genesis),
                hex(&hash)
            )
        }
        Ok(Leaf::Tail {
            genesis,
            n,
            provisional,
            ..
        }) => {
            format!(
                "position {n} of {}, provisional id {}",
                hex(&genesis),
                hex(&provisional)
            )
        }
        Ok(Leaf::Erasure { genesis, n, .. }) => {
            format!("the body at position {n} of {} was erased", hex(&genesis))
        }
        Ok(Leaf::KeyChange { old, new }) => format!("the key changes from {old} to {new}"),
        Ok(Leaf::Decision { genesis, n, .. }) => format!("a decision: position {n} of {}", hex(&genesis)),
        Ok(Leaf::Unknown { kind, data }) => format!("of unknown type {kind}, {} bytes", data.len()),
        Err(malformed) => format!("none: {} at byte {}", malformed.what, malformed.at),
    }
}

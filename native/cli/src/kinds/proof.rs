//! Proofs of one event. FORMAT.md, "Event proof".

use super::{Checked, Claim, Kind, Signature, titled};
use crate::opened::Opened;
use crate::show::{Printer, event_text};
use crate::trust::{Signed, refusal};
use event_seal_core::Malformed;
use event_seal_core::checkpoint::{Checkpoint, Policy};
use event_seal_core::note::Note;
use event_seal_core::proof::{Content, Proof, Proven, Refused, verify as prove};
use event_seal_core::verify::{ReadAt, Verdict};
use std::io;

pub const KIND: Kind = Kind {
    name: "proof",
    allowed: "proofs of events, whose first line is \"event-seal/1 proof\"",
    claims,
    passes: 1,
    needs_key: true,
    verify,
    show,
};

fn claims(beginning: &[u8]) -> Option<Claim> {
    titled(beginning, b"proof")
}

fn verify(file: &Opened, policy: Option<&Policy>) -> Checked {
    let mut buffer = Vec::new();
    let bytes = file.read_at(0..file.length(), &mut buffer).unwrap_or_default();
    let checked = match policy {
        Some(policy) => prove(bytes, policy).map(|proven| proven_event(&proven)),
        None => unproven(bytes).map_err(Refused::from),
    };
    checked.unwrap_or_else(|refused| {
        Checked::unsigned(String::new(), Verdict::default(), false).with(Err(refusal(&refused)))
    })
}

fn proven_event(proven: &Proven<'_>) -> Checked {
    let (proof, opened) = (&proven.proof, &proven.opened);
    let shown = matches!(proof.content, Content::Shown { .. });
    let verdict = Verdict {
        flows: 1,
        events: 1,
        fixed: 1,
        bodies_verified: u64::from(shown),
        bodies_not_shown: u64::from(!shown),
        ..Verdict::default()
    };
    let cosigned = opened.cosignatures.iter();
    let signed = Signed {
        origin: opened.checkpoint.origin.to_owned(),
        size: opened.checkpoint.size,
        index: Some(proof.logged.index),
        through: Some(proof.n),
        names: Vec::new(),
        key: Some(opened.log.to_string()),
        witnesses: cosigned.map(|one| (one.witness.to_string(), one.time)).collect(),
    };
    Checked {
        event: Some(described(proof)),
        ..Checked::unsigned(proof.genesis.flow.clone(), verdict, false).with(Ok(Some(signed)))
    }
}

/// What the file says, with no key to tell whether any of it is so.
fn unproven(bytes: &[u8]) -> Result<Checked, Malformed> {
    let proof = read(bytes)?;
    let note = Note::parse(proof.logged.checkpoint)?;
    let checkpoint = Checkpoint::parse(note.text)?;
    let signed = Signed {
        origin: checkpoint.origin.to_owned(),
        size: checkpoint.size,
        index: Some(proof.logged.index),
        through: Some(proof.n),
        names: note.signatures.iter().map(|line| line.name.to_owned()).collect(),
        key: None,
        witnesses: Vec::new(),
    };
    Ok(Checked {
        event: Some(described(&proof)),
        signature: Signature::NotChecked,
        ..Checked::unsigned(proof.genesis.flow.clone(), Verdict::default(), false).with(Ok(Some(signed)))
    })
}

fn read(bytes: &[u8]) -> Result<Proof<'_>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| Malformed {
        at: error.valid_up_to() as u64,
        what: "utf-8",
    })?;
    Proof::parse(text)
}

fn described(proof: &Proof<'_>) -> String {
    let body = match &proof.content {
        Content::Shown { body, .. } => format!("its body of {} bytes is shown", body.len()),
        Content::NotShown(_) => "its body is not shown".to_owned(),
    };
    let (n, flow, height) = (proof.n, &proof.genesis.flow, proof.header.height);
    format!(
        "event {n} of {flow}, in block {height}: {}; {body}",
        event_text(&proof.event)
    )
}

fn show(file: &Opened, printer: &mut Printer<'_>) -> io::Result<()> {
    let mut buffer = Vec::new();
    let bytes = file.read_at(0..file.length(), &mut buffer).unwrap_or_default();
    match read(bytes) {
        Ok(proof) => {
            printer.line(&described(&proof))?;
            if let Content::Shown { body, .. } = &proof.content {
                printer.shown(body)?;
            }
            printer.text(&proof.logged.text())
        }
        Err(malformed) => printer.malformed("proof", &malformed),
    }
}

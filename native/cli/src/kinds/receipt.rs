//! Receipts: what a store promises of one event. FORMAT.md, "Receipts".

use super::{Checked, Claim, Kind, titled};
use crate::opened::Opened;
use crate::report::hex;
use crate::show::{Printer, time};
use crate::trust::{Signed, receipt_refusal};
use event_seal_core::checkpoint::Policy;
use event_seal_core::receipt::{Promise, Receipt, Refused, Standing, verify as hold};
use event_seal_core::verify::{ReadAt, Verdict};
use std::io;

pub const KIND: Kind = Kind {
    name: "receipt",
    allowed: "receipts, whose first line is \"event-seal/1 receipt\"",
    claims,
    passes: 1,
    needs_key: true,
    verify,
    show,
};

fn claims(beginning: &[u8]) -> Option<Claim> {
    titled(beginning, b"receipt")
}

fn verify(file: &Opened, policy: Option<&Policy>) -> Checked {
    let mut buffer = Vec::new();
    let bytes = file.read_at(0..file.length(), &mut buffer).unwrap_or_default();
    let checked = match policy {
        Some(policy) => hold(bytes, policy).map(|held| checked(&held.receipt, Some(held.key.to_string()))),
        None => Receipt::read(bytes)
            .map(|receipt| checked(&receipt, None))
            .map_err(Refused::from),
    };
    checked.unwrap_or_else(|refused| {
        Checked::unsigned(String::new(), Verdict::default(), false).with(Err(receipt_refusal(&refused)))
    })
}

/// What is promised, by whose key if that is known.
fn checked(receipt: &Receipt<'_>, key: Option<String>) -> Checked {
    let verdict = Verdict {
        events: 1,
        bodies_not_shown: 1,
        ..Verdict::default()
    };
    let name = receipt.signature.name.to_owned();
    let (verdict, names) = match key {
        Some(_) => (verdict, Vec::new()),
        None => (Verdict::default(), vec![name.clone()]),
    };
    let signed = Signed {
        origin: name,
        size: u64::from(receipt.count),
        index: Some(u64::from(receipt.index)),
        through: None,
        names,
        key,
        witnesses: Vec::new(),
    };
    Checked {
        event: Some(described(&receipt.promise)),
        ..Checked::unsigned(String::new(), verdict, false).with(Ok(Some(signed)))
    }
}

fn described(promise: &Promise) -> String {
    let deadline = time(promise.deadline);
    let promised = match promise.standing {
        Standing::Pool => format!(
            "to be under a checkpoint by {deadline}, unless it is amended or retracted before it settles"
        ),
        Standing::Settled => format!("settled, to be under a checkpoint by {deadline}"),
        Standing::Retracted => format!("retracted at {deadline}, never to come into the flow"),
    };
    format!(
        "event {}, revision {}, recorded {}: {promised}",
        hex(&promise.euid),
        promise.revision,
        time(promise.recorded_at)
    )
}

fn show(file: &Opened, printer: &mut Printer<'_>) -> io::Result<()> {
    let mut buffer = Vec::new();
    let bytes = file.read_at(0..file.length(), &mut buffer).unwrap_or_default();
    match Receipt::read(bytes) {
        Ok(receipt) => {
            printer.line(&described(&receipt.promise))?;
            printer.text(&receipt.text())
        }
        Err(malformed) => printer.malformed("receipt", &malformed),
    }
}

//! Archives: a flow's containers and what proves them. FORMAT.md, "Archive".

use super::containers::versioned;
use super::{Checked, Claim, Kind, MAX_FAULTS};
use crate::opened::Opened;
use crate::show::Printer;
use crate::trust::{Signed, refusal};
use event_seal_core::archive::{self, Archive, By, no_archive};
use event_seal_core::checkpoint::Policy;
use event_seal_core::verify::Unwatched;
use std::io;

pub const KIND: Kind = Kind {
    name: "archive",
    allowed: "archives, which begin with EVSEALA1",
    claims,
    passes: 1,
    needs_key: false,
    verify,
    show,
};

fn claims(beginning: &[u8]) -> Option<Claim> {
    versioned(beginning, b"A")
}

fn verify(file: &Opened, policy: Option<&Policy>) -> Checked {
    let archive = match Archive::open(file) {
        Ok(archive) => archive,
        Err(malformed) => return Checked::unsigned(String::new(), no_archive(&malformed), false),
    };
    let (flow, verdict) = archive.verify(&Unwatched, MAX_FAULTS);
    let signed = archive.signed(policy).map(|signed| signed.map(told));
    let part = archive.preamble().part;
    Checked::unsigned(flow, verdict, part).with(signed.map_err(|refused| refusal(&refused)))
}

fn told(signed: archive::Signed) -> Signed {
    let By { log, witnesses } = signed.by.clone().unwrap_or_default();
    Signed {
        origin: signed.origin,
        size: signed.size,
        index: Some(signed.index),
        through: Some(signed.last),
        names: signed.names,
        key: signed.by.map(|_| log),
        witnesses,
    }
}

fn show(file: &Opened, printer: &mut Printer<'_>) -> io::Result<()> {
    let archive = match Archive::open(file) {
        Ok(archive) => archive,
        Err(malformed) => return printer.malformed("archive", &malformed),
    };
    let mut windows = archive.containers().windows();
    windows.try_for_each(|window| printer.containers(&window))?;
    match archive.proof() {
        Ok(Some(proof)) => {
            printer.line(&format!("proof of block {}", archive.preamble().height))?;
            printer.text(&proof)
        }
        Ok(None) => printer.line("no proof: the archive is not signed"),
        Err(malformed) => printer.malformed("proof", &malformed),
    }
}

//! The interchange form: JSON Lines, one flow a file. FORMAT.md, "Interchange".

use super::{Checked, Claim, Kind, MAX_FAULTS, Signature};
use crate::opened::Opened;
use crate::show::Printer;
use event_seal_core::checkpoint::Policy;
use event_seal_core::interchange::Reading;
use event_seal_core::verify::Unwatched;
use serde::Deserialize;
use std::io;

pub const KIND: Kind = Kind {
    name: "interchange",
    allowed: "interchange files, whose first line says {\"format\":\"event-seal/1\",…}",
    claims,
    passes: 2,
    needs_key: false,
    verify,
    show,
};

const FAMILY: &str = "event-seal/";

fn claims(beginning: &[u8]) -> Option<Claim> {
    let format = format_of(beginning)?;
    match format.strip_prefix(FAMILY)? {
        "1" => Some(Claim::Known),
        version => Some(Claim::OtherVersion(version.to_owned())),
    }
}

/// What the first line says is its format; of a line that is none, if it says so first of all.
pub fn format_of(beginning: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct First {
        format: String,
    }
    let line = beginning.split(|byte| *byte == b'\n').next()?;
    if let Ok(first) = serde_json::from_slice::<First>(line) {
        return Some(first.format);
    }
    let value = line.strip_prefix(b"{\"format\":\"")?;
    let end = value.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(value.get(..end)?.to_vec()).ok()
}

/// Its checkpoints are not tied to its blocks, so no key can tell anything of these.
fn verify(file: &Opened, _policy: Option<&Policy>) -> Checked {
    let reading = Reading::of(file, &Unwatched);
    Checked {
        flow: reading.flow().to_owned(),
        verdict: reading.verify(&Unwatched, MAX_FAULTS),
        part: false,
        signature: match reading.checkpoint_count() {
            0 => Signature::None,
            _ => Signature::NotChecked,
        },
        signed: Ok(None),
        event: None,
        log: None,
        broken_line: reading.broken_line(),
    }
}

fn show(file: &Opened, printer: &mut Printer<'_>) -> io::Result<()> {
    let reading = Reading::of(file, &Unwatched);
    printer.containers(&reading.pieces())?;
    if let Some(line) = reading.broken_line() {
        printer.line(&format!("line {line}: the file cannot be read from here on"))?;
    }
    for checkpoint in reading.checkpoints().unwrap_or_default() {
        printer.checkpoint(&checkpoint)?;
    }
    Ok(())
}

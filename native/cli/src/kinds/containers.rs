//! Packed containers, one behind the other: a part of one flow. FORMAT.md, "Packed container".

use super::{Checked, Claim, Kind, MAX_FAULTS};
use crate::opened::Opened;
use crate::show::Printer;
use event_seal_core::archive::{Containers, Extent};
use event_seal_core::checkpoint::Policy;
use event_seal_core::verify::{ReadAt, Unwatched};
use std::io;

pub const KIND: Kind = Kind {
    name: "container",
    allowed: "packed containers, which begin with EVSEALB1 or EVSEALT1",
    claims,
    passes: 1,
    needs_key: false,
    verify,
    show,
};

/// What stands before and behind is not there, and nothing is said of it.
const EXTENT: Extent = Extent {
    part: true,
    bodies: false,
};

fn claims(beginning: &[u8]) -> Option<Claim> {
    versioned(beginning, b"BT")
}

/// Whether a file begins as EventSeal's binary files do, with one of these letters.
pub fn versioned(beginning: &[u8], letters: &[u8]) -> Option<Claim> {
    let (letter, version) = beginning
        .strip_prefix(b"EVSEAL")?
        .split_at_checked(2)?
        .0
        .split_first()?;
    match version {
        _ if !letters.contains(letter) => None,
        b"1" => Some(Claim::Known),
        version => Some(Claim::OtherVersion(version.escape_ascii().to_string())),
    }
}

fn verify(file: &Opened, _policy: Option<&Policy>) -> Checked {
    let (flow, verdict) = containers(file).verify(&Unwatched, MAX_FAULTS);
    Checked::unsigned(flow, verdict, true)
}

fn show(file: &Opened, printer: &mut Printer<'_>) -> io::Result<()> {
    let mut windows = containers(file).windows();
    windows.try_for_each(|window| printer.containers(&window))
}

fn containers(file: &Opened) -> Containers<'_, Opened> {
    Containers::of(file, 0..file.length(), EXTENT)
}

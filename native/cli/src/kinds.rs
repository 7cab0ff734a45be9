//! The kinds of files that are known, by how they begin.

mod archive;
mod containers;
mod interchange;
pub mod log;
mod proof;
pub mod receipt;

use crate::opened::Opened;
use crate::screen::plain;
use crate::show::Printer;
use crate::trust::Signed;
use event_seal_core::checkpoint::Policy;
use event_seal_core::verify::Verdict;
use serde::Serialize;
use std::io;

/// A kind of file: how it is told from others, and what can be done with it. A new one needs a line in `KINDS`.
pub struct Kind {
    /// Its name in reports.
    pub name: &'static str,
    /// What to look for, for whoever has another file.
    pub allowed: &'static str,
    /// Whether a file that begins so is of this kind, or of which version if that is not known.
    claims: fn(&[u8]) -> Option<Claim>,
    /// How often a verification reads the file.
    pub passes: u64,
    /// It shows nothing unless it is signed by a key that was given.
    pub needs_key: bool,
    pub verify: fn(&Opened, Option<&Policy>) -> Checked,
    pub show: fn(&Opened, &mut Printer<'_>) -> io::Result<()>,
}

/// All kinds.
static KINDS: [Kind; 6] = [
    interchange::KIND,
    containers::KIND,
    archive::KIND,
    log::KIND,
    proof::KIND,
    receipt::KIND,
];

enum Claim {
    Known,
    OtherVersion(String),
}

/// Whether the first line says that a file is of this kind, or of which version.
fn titled(beginning: &[u8], kind: &[u8]) -> Option<Claim> {
    let line = beginning.split(|byte| *byte == b'\n').next()?;
    let version = line.strip_prefix(b"event-seal/")?.strip_suffix(kind)?;
    Some(match version.strip_suffix(b" ")? {
        b"1" => Claim::Known,
        version => Claim::OtherVersion(String::from_utf8_lossy(version).into_owned()),
    })
}

/// What came of verifying a file.
pub struct Checked {
    /// The flow's id, as far as the file says.
    pub flow: String,
    pub verdict: Verdict,
    /// Part of a flow: nothing is said of what stands before and behind.
    pub part: bool,
    pub signature: Signature,
    /// What was signed, and by whom; or why the signature or what it is of does not hold.
    pub signed: Result<Option<Signed>, String>,
    /// Of one event alone: what is proved or promised, or would be.
    pub event: Option<String>,
    /// Of a log: what is in it.
    pub log: Option<log::Log>,
    /// The line with which the file stops to be one.
    pub broken_line: Option<u64>,
}

/// What a file's signatures say of who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// There are none.
    None,
    /// There are some, and they were not checked.
    NotChecked,
    /// All that were asked for are there and hold.
    Valid,
    /// One that was asked for is missing or wrong, or signs something else.
    Refused,
}

impl Checked {
    /// What came of verifying the containers of a file that has no signature.
    pub fn unsigned(flow: String, verdict: Verdict, part: bool) -> Checked {
        Checked {
            flow,
            verdict,
            part,
            signature: Signature::None,
            signed: Ok(None),
            event: None,
            log: None,
            broken_line: None,
        }
    }

    /// Whether there was anything that could be verified.
    pub fn is_something(&self) -> bool {
        self.verdict.events > 0 || self.log.is_some_and(|log| log.leaves + log.checkpoints > 0)
    }

    /// The same with what its signature is worth.
    pub fn with(self, signed: Result<Option<Signed>, String>) -> Checked {
        let signature = match &signed {
            Ok(None) => Signature::None,
            Ok(Some(signed)) if signed.key.is_none() => Signature::NotChecked,
            Ok(Some(_)) => Signature::Valid,
            Err(_) => Signature::Refused,
        };
        Checked {
            signature,
            signed,
            ..self
        }
    }
}

/// More faults of a file are counted, but not kept.
const MAX_FAULTS: usize = 1_000;

/// Long enough for any first line of a file that is known.
const BEGINNING: u64 = 16 * 1024;

/// A file's kind, or why it has none.
pub fn recognise(file: &Opened) -> io::Result<Result<&'static Kind, String>> {
    let beginning = file.beginning(BEGINNING)?;
    let claims = KINDS
        .iter()
        .filter_map(|kind| Some((kind, (kind.claims)(&beginning)?)));
    Ok(match claims.into_iter().next() {
        Some((kind, Claim::Known)) => Ok(kind),
        Some((kind, Claim::OtherVersion(version))) => Err(format!(
            "version {} of the {} format is not known; version 1 is",
            plain(&version),
            kind.name
        )),
        None => Err(unknown(&beginning)),
    })
}

fn unknown(beginning: &[u8]) -> String {
    let found = match (interchange::format_of(beginning), beginning) {
        (Some(format), _) => format!("its first line says format \"{}\"", plain(&format)),
        (None, []) => "it is empty".to_owned(),
        (None, _) => format!("it begins with {}", first_bytes(beginning)),
    };
    let allowed: Vec<&str> = KINDS.iter().map(|kind| kind.allowed).collect();
    format!("no file that is known: {found}. Known are {}", allowed.join("; "))
}

fn first_bytes(beginning: &[u8]) -> String {
    let first = beginning.get(..12).unwrap_or(beginning);
    if first
        .iter()
        .all(|byte| (b' '..=b'~').contains(byte) || b"\t\r\n".contains(byte))
    {
        return format!("\"{}\"", first.escape_ascii());
    }
    let hex: Vec<String> = first.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("the bytes {}", hex.join(" "))
}

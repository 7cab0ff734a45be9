//! Reports for programs. The keys are listed in README.md and do not change.

use crate::Status;
use crate::kinds::Signature;
use crate::kinds::log::Log;
use crate::report::hex;
use crate::screen::is_unseen;
use crate::trust::Signed;
use crate::verify::{Outcome, Report};
use event_seal_core::verify::{Datum, Verdict};
use serde::Serialize;
use std::io::{self, Write};

/// All that `verify --json` writes.
#[derive(Serialize)]
pub struct Files {
    status: &'static str,
    files: Vec<File>,
}

/// One file; what is not known of one that was not verified is null.
#[derive(Serialize)]
pub struct File {
    file: String,
    status: &'static str,
    error: Option<String>,
    kind: Option<&'static str>,
    flow: Option<String>,
    part: Option<bool>,
    log: Option<Log>,
    signature: Option<Signature>,
    /// What was signed and by whom.
    signed: Option<Signed>,
    /// Why the signature does not hold.
    refusal: Option<String>,
    microseconds: u64,
    verdict: Option<Counts>,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Counts {
    flows: u64,
    blocks: u64,
    events: u64,
    fixed: u64,
    provisional: u64,
    bodies_verified: u64,
    bodies_not_shown: u64,
    bytes: u64,
    fault_count: u64,
}

#[derive(Serialize)]
struct Fault {
    flow: String,
    position: u64,
    block: Option<u64>,
    class: &'static str,
    recorded: Value,
    recomputed: Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    None,
    Hex(String),
    Integer(i64),
}

impl Files {
    pub fn of(status: Status, files: Vec<File>) -> Files {
        let status = name(status);
        Files { status, files }
    }
}

/// Writes a value as one line. What a terminal would obey is escaped here too.
pub fn write(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    for char in serde_json::to_string(value)?.chars() {
        if is_unseen(char) {
            let units = char.encode_utf16(&mut [0; 2]).to_vec();
            line.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            line.push(char);
        }
    }
    writeln!(out, "{line}")
}

/// The report on one file.
pub fn file(report: &Report<'_>) -> File {
    let mut file = File {
        file: report.path.to_string_lossy().into_owned(),
        status: name(report.status()),
        error: None,
        kind: None,
        flow: None,
        part: None,
        log: None,
        signature: None,
        signed: None,
        refusal: None,
        microseconds: report.took.as_micros() as u64,
        verdict: None,
        faults: Vec::new(),
    };
    match &report.outcome {
        Outcome::Checked(kind, checked) => {
            file.kind = Some(kind.name);
            file.flow = Some(checked.flow.clone());
            file.part = Some(checked.part);
            file.log = checked.log;
            file.signature = Some(checked.signature);
            match &checked.signed {
                Ok(signed) => file.signed = signed.clone(),
                Err(why) => file.refusal = Some(why.clone()),
            }
            file.verdict = Some(counts(&checked.verdict));
            file.faults = checked.verdict.faults.iter().map(fault).collect();
        }
        Outcome::Unknown(why) | Outcome::Unreadable(why) => file.error = Some(why.clone()),
    }
    file
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Verified => "verified",
        Status::Not => "not_verified",
        Status::CouldNot => "unreadable",
    }
}

fn counts(verdict: &Verdict) -> Counts {
    Counts {
        flows: verdict.flows,
        blocks: verdict.blocks,
        events: verdict.events,
        fixed: verdict.fixed,
        provisional: verdict.provisional,
        bodies_verified: verdict.bodies_verified,
        bodies_not_shown: verdict.bodies_not_shown,
        bytes: verdict.bytes,
        fault_count: verdict.fault_count,
    }
}

fn fault(fault: &event_seal_core::verify::Fault) -> Fault {
    let value = |datum: &Datum| match datum {
        Datum::None => Value::None,
        Datum::Digest(digest) => Value::Hex(hex(digest)),
        Datum::Integer(integer) => Value::Integer(*integer),
    };
    Fault {
        flow: fault.flow.clone(),
        position: fault.position,
        block: fault.block,
        class: fault.class.name(),
        recorded: value(&fault.recorded),
        recomputed: value(&fault.recomputed),
    }
}

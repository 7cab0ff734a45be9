//! What `event-seal verify` prints.

use crate::Status;
use crate::kinds::{Checked, Signature, receipt};
use crate::screen::{Colour, coloured, plain};
use crate::trust::Signed;
use crate::verify::{Outcome, Report};
use event_seal_core::verify::{Datum, Fault, Verdict};
use std::io::{self, Write};
use std::time::Duration;

/// The report on one file.
pub fn file(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let path = plain(&report.path.to_string_lossy());
    match &report.outcome {
        Outcome::Checked(_, checked) if checked.log.is_some() => log_file(&path, checked, report, out),
        Outcome::Checked(kind, checked)
            if checked.event.is_some() || checked.verdict == Verdict::default() =>
        {
            let claim = if kind.name == receipt::KIND.name {
                "Promised"
            } else {
                "Proved"
            };
            of_event(&path, claim, checked, report.key, out)
        }
        Outcome::Checked(_, checked) => checked_file(&path, checked, report, out),
        Outcome::Unknown(why) => writeln!(
            out,
            "{}",
            coloured(&format!("NOT VERIFIED {path}: {why}."), Colour::Bad)
        ),
        Outcome::Unreadable(why) => {
            out.flush()?;
            eprintln!("event-seal: {path} could not be read: {why}");
            Ok(())
        }
    }
}

/// The report on all files together.
pub fn end(statuses: &[Status], out: &mut impl Write) -> io::Result<()> {
    let count = |status| statuses.iter().filter(|own| **own == status).count();
    let text = format!(
        "{} files: {} verified, {} not, {} could not be read.",
        statuses.len(),
        count(Status::Verified),
        count(Status::Not),
        count(Status::CouldNot)
    );
    let good = count(Status::Verified) == statuses.len();
    writeln!(
        out,
        "{}",
        coloured(&text, if good { Colour::Good } else { Colour::Bad })
    )
}

/// A proof or a receipt of one event, or a file that holds nothing.
fn of_event(path: &str, claim: &str, checked: &Checked, key: bool, out: &mut impl Write) -> io::Result<()> {
    let event = checked.event.as_deref().unwrap_or_default();
    let (claim, colour) = match (event, checked.signature) {
        ("", _) => ("NOT VERIFIED".to_owned(), Colour::Bad),
        (_, Signature::Valid) => (claim.to_owned(), Colour::Good),
        _ => (format!("NOT {}", claim.to_uppercase()), Colour::Bad),
    };
    writeln!(out, "{}", coloured(&format!("{claim} {path}"), colour))?;
    if !event.is_empty() {
        writeln!(out, "  {}", plain(event))?;
    }
    signature(checked, key, out)
}

fn log_file(path: &str, checked: &Checked, report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(log) = checked.log else { return Ok(()) };
    writeln!(out, "Verified {path}{}.", speed(report.took, log.leaves))?;
    let leaves = if log.leaves == 1 { "leaf" } else { "leaves" };
    let unknown = match log.unknown {
        0 => String::new(),
        unknown => format!(" ({} of unknown types)", number(unknown)),
    };
    let checkpoints = count(log.checkpoints, "checkpoint");
    writeln!(
        out,
        "  {} {leaves}{unknown}, {checkpoints}: of the flows nothing is said",
        number(log.leaves)
    )?;
    faults(checked, out)?;
    signature(checked, report.key, out)
}

fn checked_file(path: &str, checked: &Checked, report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let verdict = &checked.verdict;
    writeln!(out, "Verified {path}{}.", speed(report.took, verdict.events))?;
    writeln!(
        out,
        "  {}, {}, {}: {} fixed, {} provisional",
        count(verdict.flows, "flow"),
        count(verdict.blocks, "block"),
        count(verdict.events, "event"),
        number(verdict.fixed),
        number(verdict.provisional)
    )?;
    let bodies = if verdict.bodies_verified == 1 {
        "body"
    } else {
        "bodies"
    };
    let (shown, hidden) = (number(verdict.bodies_verified), number(verdict.bodies_not_shown));
    writeln!(out, "  {shown} {bodies} verified, {hidden} not shown")?;
    if checked.part {
        writeln!(
            out,
            "  part of a flow: of what stands before and behind it nothing is said"
        )?;
    }
    faults(checked, out)?;
    signature(checked, report.key, out)
}

/// What a file shows beyond that it agrees with itself.
fn signature(checked: &Checked, key: bool, out: &mut impl Write) -> io::Result<()> {
    let (text, colour) = match &checked.signed {
        Err(why) => (format!("NOT SIGNED AS ASKED: {why}."), Colour::Bad),
        Ok(Some(Signed { key: None, names, .. })) => (not_checked(names), Colour::Caution),
        Ok(Some(signed)) => return signed_by(signed, checked.verdict.fault_count, out),
        Ok(None) if key => (
            "NOT SIGNED: nothing here is signed by the key.".to_owned(),
            Colour::Bad,
        ),
        Ok(None) => (unsigned(checked), Colour::Caution),
    };
    writeln!(out, "{}", coloured(&plain(&text), colour))
}

fn not_checked(names: &[String]) -> String {
    let names = names.join(" and ");
    format!("Signed by {names}, signature not checked: no --key was given.")
}

fn signed_by(signed: &Signed, faults: u64, out: &mut impl Write) -> io::Result<()> {
    let key = signed.key.as_deref().unwrap_or_default();
    let size = number(signed.size);
    let text = match (faults, signed.through, signed.index) {
        (0, Some(n), Some(index)) => format!(
            "Signed up to position {n} by {key}: leaf {} of {size}.",
            number(index)
        ),
        (0, None, Some(index)) => format!("Signed by {key}: promise {} of {size}.", number(index)),
        (0, _, None) => format!("Signed by {key}: the first {size} leaves."),
        (_, None, None) => {
            format!("The last checkpoint was signed by {key}, but something here does not hold.")
        }
        _ => format!(
            "The last block that is proved was signed by {key}, but what was signed is not what stands here."
        ),
    };
    let colour = if faults == 0 { Colour::Good } else { Colour::Bad };
    writeln!(out, "{}", coloured(&plain(&text), colour))?;
    signed.witnesses.iter().try_for_each(|(witness, time)| {
        let text = format!("  cosigned by {witness}, {}", time_of(*time));
        writeln!(out, "{}", plain(&text))
    })
}

/// Seconds since the UNIX epoch as UTC.
fn time_of(seconds: u64) -> String {
    let microseconds = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    crate::show::time(microseconds)
}

fn unsigned(checked: &Checked) -> String {
    let signed = match checked.signature {
        Signature::NotChecked => "Signatures not checked",
        _ => "Unsigned",
    };
    match checked.verdict.fault_count {
        0 => format!(
            "{signed}: the file agrees with itself; that does not show who made it, or that it was not made anew."
        ),
        _ => format!("{signed}: nothing here shows who made the file."),
    }
}

fn faults(checked: &Checked, out: &mut impl Write) -> io::Result<()> {
    let verdict = &checked.verdict;
    if verdict.fault_count == 0 {
        return writeln!(out, "{}", no_fault(checked));
    }
    let heading = format!("{}:", count(verdict.fault_count, "FAULT"));
    writeln!(out, "{}", coloured(&heading, Colour::Bad))?;
    verdict.faults.iter().try_for_each(|found| fault(found, out))?;
    let left = verdict.fault_count - verdict.faults.len() as u64;
    if left > 0 {
        writeln!(out, "  … and {} more faults", number(left))?;
    }
    match checked.broken_line {
        Some(line) => writeln!(
            out,
            "  what stands from line {} on was not verified",
            number(line)
        ),
        None => Ok(()),
    }
}

fn no_fault(checked: &Checked) -> String {
    match checked.is_something() {
        false => coloured("There was nothing to verify.", Colour::Bad),
        true => coloured(
            "No fault: every value that was read is what was sealed.",
            Colour::Good,
        ),
    }
}

fn fault(fault: &Fault, out: &mut impl Write) -> io::Result<()> {
    let flow = match fault.flow.as_str() {
        "" => "unknown flow".to_owned(),
        flow => plain(flow),
    };
    let block = fault
        .block
        .map_or(String::new(), |height| format!(", block {height}"));
    writeln!(
        out,
        "  {flow}, position {}{block}: {}",
        fault.position,
        fault.class.name()
    )?;
    writeln!(out, "    recorded    {}", datum(&fault.recorded))?;
    writeln!(out, "    recomputed  {}", datum(&fault.recomputed))
}

fn datum(datum: &Datum) -> String {
    match datum {
        Datum::None => "nothing".to_owned(),
        Datum::Digest(digest) => hex(digest),
        Datum::Integer(integer) => integer.to_string(),
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn speed(took: Duration, events: u64) -> String {
    let seconds = took.as_secs_f64();
    let rate = match took.as_micros() {
        0 => String::new(),
        _ => format!(" ({} events/s)", number((events as f64 / seconds) as u64)),
    };
    format!(" in {seconds:.2} s{rate}")
}

fn count(count: u64, one: &str) -> String {
    let many = if count == 1 {
        ""
    } else if one == "FAULT" {
        "S"
    } else {
        "s"
    };
    format!("{} {one}{many}", number(count))
}

/// 1234567 as 1,234,567.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

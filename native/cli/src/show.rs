//! `event-seal show`: what a file says.

use crate::Status;
use crate::kinds::recognise;
use crate::opened::Opened;
use crate::report::hex;
use crate::screen::plain;
use event_seal_core::Malformed;
use event_seal_core::block::{Body, Container};
use event_seal_core::event::{Event, Where, decode_salted_body};
use event_seal_core::genesis::Genesis;
use event_seal_core::verify::Source;
use std::io::{self, Write};
use std::path::Path;

pub fn run(path: &Path, bodies: bool, out: &mut dyn Write) -> io::Result<Status> {
    let name = plain(&path.to_string_lossy());
    let could_not = |error: &io::Error| {
        eprintln!("event-seal: {name} could not be read: {error}");
        Ok(Status::CouldNot)
    };
    let file = match Opened::open(path) {
        Ok(file) => file,
        Err(error) => return could_not(&error),
    };
    let kind = match recognise(&file)? {
        Ok(kind) => kind,
        Err(why) => {
            eprintln!("event-seal: {name}: {why}.");
            return Ok(Status::Not);
        }
    };
    let mut printer = Printer {
        out,
        bodies,
        flow: None,
    };
    printer.line(&format!(
        "{name}: {} file; this is what it says, nothing was verified",
        kind.name
    ))?;
    (kind.show)(&file, &mut printer)?;
    out.flush()?;
    match file.failure() {
        Some(error) => could_not(error),
        None => Ok(Status::Verified),
    }
}

/// Prints what containers hold.
pub struct Printer<'a> {
    out: &'a mut dyn Write,
    bodies: bool,
    /// The genesis record that was printed last.
    flow: Option<Vec<u8>>,
}

impl Printer<'_> {
    /// One line, from a file or not.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", plain(text))
    }

    /// Lines that stand in the file, set off.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| self.line(&format!("  {line}")))
    }

    /// A body, if bodies are asked for.
    pub fn shown(&mut self, body: &[u8]) -> io::Result<()> {
        if !self.bodies {
            return Ok(());
        }
        self.line(&format!("     {}", String::from_utf8_lossy(body)))
    }

    /// Why it is none.
    pub fn malformed(&mut self, what: &str, malformed: &Malformed) -> io::Result<()> {
        self.line(&format!("no {what}: {} at byte {}", malformed.what, malformed.at))
    }

    /// A signed note.
    pub fn checkpoint(&mut self, note: &str) -> io::Result<()> {
        self.line("checkpoint")?;
        self.text(note)
    }

    /// Containers, in order.
    pub fn containers(&mut self, source: &impl Source) -> io::Result<()> {
        let mut buffer = Vec::new();
        for index in 0..source.len() {
            match source.read(index, &mut buffer).ok().map(Container::decode) {
                Some(Ok(container)) => self.container(&container)?,
                Some(Err(malformed)) => {
                    self.line(&format!(
                        "no container: {} at byte {}",
                        malformed.what, malformed.at
                    ))?;
                }
                None => self.line("a container that cannot be read")?,
            }
        }
        Ok(())
    }

    fn container(&mut self, container: &Container<'_>) -> io::Result<()> {
        self.genesis(container)?;
        let header = container.header();
        let events = format!("events {} to {}", header.first, container.last());
        if container.is_tail() {
            self.line(&format!("tail: {events}"))?;
        } else {
            let closes = if header.closes { ", closes the flow" } else { "" };
            self.line(&format!(
                "block {}: {events}, epoch {}{closes}",
                header.height, header.epoch
            ))?;
            self.line(&format!(
                "  sealed {}, hash {}",
                time(header.sealed_at),
                hex(container.hash())
            ))?;
        }
        (0..container.count()).try_for_each(|i| self.event(container, i))
    }

    fn genesis(&mut self, container: &Container<'_>) -> io::Result<()> {
        let record = container.genesis_record();
        if self.flow.as_deref() == Some(record) {
            return Ok(());
        }
        self.flow = Some(record.to_vec());
        let Ok(genesis) = Genesis::decode(record) else {
            return Ok(());
        };
        let created = time(genesis.created_at);
        self.line(&format!(
            "flow {}, {}, created {created}",
            genesis.flow,
            genesis.suite.name()
        ))?;
        self.line(&format!("  genesis {}", hex(&container.header().genesis)))
    }

    fn event(&mut self, container: &Container<'_>, i: usize) -> io::Result<()> {
        let n = container.header().first + i as u64;
        let body = container.body(i);
        match container.event(i) {
            Ok(event) => self.line(&format!("  {n}  {}, {}", event_text(&event), body_text(body)))?,
            Err(malformed) => self.line(&format!("  {n}  no event: {}", malformed.what))?,
        }
        match body {
            Body::Shown(salted) if self.bodies => self.body(salted),
            _ => Ok(()),
        }
    }

    fn body(&mut self, salted: &[u8]) -> io::Result<()> {
        let (_, body) = decode_salted_body(salted).unwrap_or((&[0; 16], salted));
        self.line(&format!("     {}", String::from_utf8_lossy(body)))
    }
}

/// What is said of an event in one line.
pub fn event_text(event: &Event<'_>) -> String {
    let place = match event.place {
        Where::Nowhere => String::new(),
        Where::Place(place) => format!(", at {place}"),
        Where::Geo { lat, lon } => format!(", at {} {}", f64::from(lat) / 1e7, f64::from(lon) / 1e7),
    };
    let who = event.who.map_or(String::new(), |who| format!(", by {who}"));
    let late = if event.late { ", late" } else { "" };
    let revision = match event.revision {
        0 => String::new(),
        revision => format!(", revision {revision}"),
    };
    let (when, kind, version) = (time(event.when), event.kind, event.version);
    format!("{when}  {kind}/{version}{place}{who}{late}{revision}")
}

fn body_text(body: Body<'_>) -> String {
    match body {
        Body::Shown(salted) => match decode_salted_body(salted) {
            Ok((_, body)) => format!("body of {} bytes", body.len()),
            Err(_) => "body cannot be read".to_owned(),
        },
        Body::Erased => "body erased".to_owned(),
        Body::Absent => "body not shown".to_owned(),
    }
}

const DAY: i64 = 86_400_000_000;

/// Microseconds since the UNIX epoch as UTC.
pub fn time(microseconds: i64) -> String {
    let (days, rest) = (microseconds.div_euclid(DAY), microseconds.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// The date, so many days after 1970-01-01, in the Gregorian calendar: counted from a 1st of March, so that a leap day is
/// the last of its year.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (microseconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_000_001, "2024-02-29T23:59:59.000001Z"),
            (1_767_225_599_999_999, "2025-12-31T23:59:59.999999Z"),
            (-2_203_977_600_000_000, "1900-02-28T00:00:00.000000Z"),
            (-2_203_891_200_000_000, "1900-03-01T00:00:00.000000Z"),
            (9_007_199_254_740_991, "2255-06-05T23:47:34.740991Z"),
            (-9_007_199_254_740_991, "1684-07-28T00:12:25.259009Z"),
        ] {
            assert_eq!(time(microseconds), text);
        }
    }
}

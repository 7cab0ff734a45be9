//! Writing the interchange form: one order of keys, no spaces, a line end after each line.

use std::borrow::Cow;

use serde::Serialize;

use super::line::{self, Where};
use super::scalar::{Base64, Hex, Integer, Natural, Text};
use crate::block::{Body, Container};
use crate::event::{Event, decode_salted_body};
use crate::genesis::{Genesis, WINDOW};
use crate::wire::Malformed;

/// The first line of a flow's file.
pub fn header_line(genesis: &Genesis, closed: bool) -> String {
    let line = line::Header {
        format: Text(super::FORMAT.into()),
        suite: Text(genesis.suite.name().into()),
        window: WINDOW,
        flow: Text(genesis.flow.as_str().into()),
        created_at: Integer(genesis.created_at),
        nonce: Hex(genesis.nonce),
        genesis: Hex(genesis.digest()),
        closed,
    };
    let mut out = Vec::new();
    write(&line, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the lines of a container: its events, and after a block's the block. On error `out` is as it was.
pub fn lines(container: &Container<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = out.len();
    let written = (0..container.count()).try_for_each(|i| event_line(container, i, out));
    match written {
        Ok(()) if !container.is_tail() => write(&block_line(container), out),
        Ok(()) => {}
        Err(_) => out.truncate(start),
    }
    written
}

/// The line of a checkpoint, a signed note with its line ends.
pub fn checkpoint_line(checkpoint: &str) -> String {
    let mut out = Vec::new();
    write(
        &line::Checkpoint {
            checkpoint: Text(checkpoint.into()),
        },
        &mut out,
    );
    String::from_utf8(out).unwrap_or_default()
}

fn event_line(container: &Container<'_>, i: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let event = container.event(i)?;
    let shown = match container.body(i) {
        Body::Shown(salted) => Some(decode_salted_body(salted)?),
        Body::Erased | Body::Absent => None,
    };
    let link = container.ids().get(i).copied().map(Hex);
    let (id, provisional) = if container.is_tail() {
        (None, link)
    } else {
        (link, None)
    };
    let Event {
        euid,
        when,
        recorded_at,
        commitment,
        late,
        revision,
        kind,
        version,
        place,
        who,
    } = event;
    let line = line::Event {
        n: Natural(container.header().first + i as u64),
        euid: Hex(euid),
        when: Integer(when),
        recorded_at: Integer(recorded_at),
        r#where: Where::of_event(place),
        who: who.map(|who| Text(who.into())),
        kind: Text(kind.into()),
        version,
        revision,
        late,
        salt: shown.map(|(salt, _)| Hex(*salt)),
        body: shown.map(|(_, body)| Base64(Cow::Borrowed(body))),
        commitment: Hex(commitment),
        hash: Hex(container.hashes().get(i).copied().unwrap_or_default()),
        id,
        provisional,
    };
    write(&line, out);
    Ok(())
}

fn block_line(container: &Container<'_>) -> line::Block {
    let header = container.header();
    line::Block {
        block: Natural(header.height),
        first: Natural(header.first),
        count: header.count,
        epoch: Natural(header.epoch),
        closes: header.closes,
        when_min: Integer(header.when_min),
        when_max: Integer(header.when_max),
        sealed_at: Integer(header.sealed_at),
        root: Hex(header.root),
        hash: Hex(*container.hash()),
    }
}

/// Writing into memory what has only text keys cannot fail.
fn write(line: &impl Serialize, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(&mut *out, line);
    debug_assert!(written.is_ok());
    out.push(b'\n');
}

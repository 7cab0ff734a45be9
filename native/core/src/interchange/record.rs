//! What one line records, read by itself: so lines are read side by side.

use super::line::{self, Kind, Where};
use crate::event::{Event, salted_body};
use crate::genesis::{Genesis, WINDOW};
use crate::suite::{Digest, Suite};

/// One line, read by itself.
pub(super) enum Line {
    Header(Header),
    Event(u64, Entry),
    Block(line::Block),
    Checkpoint(String),
}

impl Line {
    /// The line, or what it says it is if it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Option<Kind>> {
        let text = String::from_utf8_lossy(bytes);
        let kind = Kind::of(&text);
        let text = std::str::from_utf8(bytes).map_err(|_| kind)?;
        let line = match kind {
            None => None,
            Some(Kind::Header) => line::read(text).and_then(Header::of_line).map(Self::Header),
            Some(Kind::Event) => line::read(text).and_then(|line: line::Event| {
                Entry::of_line(&line).map(|entry| Self::Event(line.n.0, entry))
            }),
            Some(Kind::Block) => line::read(text).map(Self::Block),
            Some(Kind::Checkpoint) => line::read(text)
                .map(|line: line::Checkpoint| Self::Checkpoint(line.checkpoint.0.into_owned())),
        };
        line.ok_or(kind)
    }
}

pub(super) struct Header {
    pub genesis: Genesis,
    /// G as the file records it.
    pub digest: Digest,
    pub closed: bool,
}

pub(super) struct Entry {
    pub frame: Vec<u8>,
    pub hash: Digest,
    /// The id, or the provisional one.
    pub id: Digest,
    pub sealed: bool,
    pub body: Option<Vec<u8>>,
}

impl Header {
    fn of_line(line: line::Header) -> Option<Self> {
        let suite = Suite::from_name(&line.suite.0)?;
        if line.format.0 != super::FORMAT || line.window != WINDOW {
            return None;
        }
        let genesis = Genesis::new(suite, line.created_at.0, line.nonce.0, &line.flow.0).ok()?;
        Some(Self {
            genesis,
            digest: line.genesis.0,
            closed: line.closed,
        })
    }
}

impl Entry {
    /// None if the event breaks a rule of its fields, or has a salt without a body.
    fn of_line(line: &line::Event) -> Option<Self> {
        let event = Event {
            euid: line.euid.0,
            when: line.when.0,
            recorded_at: line.recorded_at.0,
            commitment: line.commitment.0,
            late: line.late,
            revision: line.revision,
            kind: &line.kind.0,
            version: line.version,
            place: Where::to_event(line.r#where.as_ref()),
            who: line.who.as_ref().map(|who| &*who.0),
        };
        let body = match (&line.salt, &line.body) {
            (Some(salt), Some(body)) => Some(salted_body(&salt.0, &body.0)),
            (None, None) => None,
            _ => return None,
        };
        let (id, sealed) = match (line.id, line.provisional) {
            (Some(id), None) => (id.0, true),
            (None, Some(provisional)) => (provisional.0, false),
            _ => return None,
        };
        let mut frame = Vec::new();
        event.encode(&mut frame).ok()?;
        Some(Self {
            frame,
            hash: line.hash.0,
            id,
            sealed,
            body,
        })
    }
}

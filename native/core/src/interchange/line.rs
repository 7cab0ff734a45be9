//! The lines of an interchange file (FORMAT.md, "Interchange"), read strictly and written in one order.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize as Derive, Serialize};

use super::scalar::{Base64, Hex, Integer, Natural, Text};
use crate::event;

/// The first line: the flow.
#[derive(Debug, Serialize, Derive)]
#[serde(deny_unknown_fields)]
pub struct Header<'a> {
    #[serde(borrow)]
    pub format: Text<'a>,
    pub suite: Text<'a>,
    pub window: u8,
    pub flow: Text<'a>,
    pub created_at: Integer,
    pub nonce: Hex<16>,
    pub genesis: Hex<32>,
    pub closed: bool,
}

/// An event; it bears an `id` if it is sealed, and a `provisional` one otherwise.
#[derive(Debug, Serialize, Derive)]
#[serde(deny_unknown_fields)]
pub struct Event<'a> {
    pub n: Natural,
    pub euid: Hex<16>,
    pub when: Integer,
    pub recorded_at: Integer,
    #[serde(borrow, deserialize_with = "present")]
    pub r#where: Option<Where<'a>>,
    #[serde(borrow, deserialize_with = "present")]
    pub who: Option<Text<'a>>,
    #[serde(borrow)]
    pub kind: Text<'a>,
    pub version: u16,
    pub revision: u16,
    pub late: bool,
    #[serde(deserialize_with = "present")]
    pub salt: Option<Hex<16>>,
    #[serde(borrow, deserialize_with = "present")]
    pub body: Option<Base64<'a>>,
    pub commitment: Hex<32>,
    pub hash: Hex<32>,
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub id: Option<Hex<32>>,
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub provisional: Option<Hex<32>>,
}

/// A place, or a position in units of 10⁻⁷ degrees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Derive)]
#[serde(rename_all = "lowercase")]
pub enum Where<'a> {
    Place(#[serde(borrow)] Text<'a>),
    Geo((i32, i32)),
}

/// A block, directly after its last event.
#[derive(Debug, Serialize, Derive)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub block: Natural,
    pub first: Natural,
    pub count: u32,
    pub epoch: Natural,
    pub closes: bool,
    pub when_min: Integer,
    pub when_max: Integer,
    pub sealed_at: Integer,
    pub root: Hex<32>,
    pub hash: Hex<32>,
}

/// A signed checkpoint of the log.
#[derive(Debug, Serialize, Derive)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint<'a> {
    #[serde(borrow)]
    pub checkpoint: Text<'a>,
}

/// What a line says it is, by its first key that tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Header,
    Event,
    Block,
    Checkpoint,
}

impl Kind {
    /// The kind of a line, as far as it can be read.
    pub fn of(line: &str) -> Option<Self> {
        let mut kind = None;
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let _ = deserializer.deserialize_map(Keys(&mut kind));
        kind
    }

    fn of_key(key: &str) -> Option<Self> {
        match key {
            "format" => Some(Self::Header),
            "n" => Some(Self::Event),
            "block" => Some(Self::Block),
            "checkpoint" => Some(Self::Checkpoint),
            _ => None,
        }
    }
}

/// Reads one line as one object with nothing around it. `None` says no more than that it is not one: a message could
/// hold what the line holds.
pub fn read<'a, T: Derive<'a>>(line: &'a str) -> Option<T> {
    // A derived reader would take an array of the values as well.
    if !line.starts_with('{') || !line.ends_with('}') {
        return None;
    }
    serde_json::from_str(line).ok()
}

struct Keys<'k>(&'k mut Option<Kind>);

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(kind) = map.next_key_seed(Key)? {
            if kind.is_some() {
                *self.0 = kind;
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<Kind>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Text::deserialize(deserializer).map(|key| Kind::of_key(&key.0))
    }
}

/// A key that may be null must still be there: serde lets an `Option`'s key be missing unless a function reads it.
fn present<'de, D: Deserializer<'de>, T: Derive<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(deserializer)
}

/// A key that may be missing must not be null.
fn some<'de, D: Deserializer<'de>, T: Derive<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'a> Where<'a> {
    /// As an event's frame holds it.
    pub fn to_event(place: Option<&'a Self>) -> event::Where<'a> {
        match place {
            None => event::Where::Nowhere,
            Some(Self::Place(text)) => event::Where::Place(&text.0),
            Some(Self::Geo((lat, lon))) => event::Where::Geo { lat: *lat, lon: *lon },
        }
    }

    /// As a line holds it.
    pub fn of_event(place: event::Where<'a>) -> Option<Self> {
        match place {
            event::Where::Nowhere => None,
            event::Where::Place(text) => Some(Self::Place(Text(text.into()))),
            event::Where::Geo { lat, lon } => Some(Self::Geo((lat, lon))),
        }
    }
}

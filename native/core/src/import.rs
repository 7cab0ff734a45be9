//! The import form (FORMAT.md, "Import"): one event a line, read strictly.
//!
//! An error names the key, the rule and the type of what was found, never the value: it may be a patient's.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{self, Event, Invalid, check_text};
use crate::genesis::FLOW_MAX;
use crate::interchange::line::Where;
use crate::interchange::scalar::{Hex, Integer, Text};

/// An event to import. All its fields keep the rules of format 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported<'a> {
    /// The flow's id.
    pub flow: Cow<'a, str>,
    /// The event's name, if the file gives one.
    pub euid: Option<[u8; 16]>,
    /// Microseconds since the UNIX epoch.
    pub when: i64,
    /// Who says so.
    pub who: Option<Cow<'a, str>>,
    /// What it is.
    pub kind: Cow<'a, str>,
    /// The kind's version; 1 unless given.
    pub version: u16,
    /// What happened, as text.
    pub body: Cow<'a, str>,
    place: Option<Where<'a>>,
}

impl Imported<'_> {
    /// Where it happened.
    pub fn place(&self) -> event::Where<'_> {
        Where::to_event(self.place.as_ref())
    }
}

/// Why a line cannot be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// The key concerned; none if it is the whole line.
    pub key: Option<Key>,
    /// What is asked for.
    pub rule: Rule,
    /// The type of what was found; none where that says nothing.
    pub found: Option<Found>,
}

impl fmt::Display for ImportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}",
            self.key.map_or("line", Key::name),
            self.rule.text()
        )?;
        self.found
            .map_or(Ok(()), |found| write!(formatter, ", got {}", found.text()))
    }
}

/// Declares an enum whose every variant has a constant text.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident . $text:ident { $($variant:ident => $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Each variant's text says what it is.
        pub enum $name { $($variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// Its constant text.
            pub fn $text(self) -> &'static str {
                match self { $($name::$variant => $value,)* }
            }
        }
    };
}

named! {
    /// The keys of a line.
    Key.name {
        Flow => "flow", Euid => "euid", When => "when", Where => "where", Who => "who", Kind => "kind",
        Version => "version", Body => "body",
    }
}

named! {
    /// What a line, or the value of a key, must be.
    Rule.text {
        Utf8 => "must be UTF-8",
        Object => "must be one JSON object",
        Known => "holds a key other than flow, euid, when, where, who, kind, version and body",
        Once => "must stand only once",
        There => "must be there",
        Text => "must be text",
        Time => "must be integer microseconds within ±(2^53-1)",
        Place => "must be null, {\"place\":text} or {\"geo\":[latitude,longitude]} in integer units of 10^-7 degrees",
        Euid => "must be 32 digits of lower-case hex",
        Version => "must be an integer from 0 to 65535",
        NotEmpty => "must not be empty",
        Length => "must be at most 512 bytes (flow, who), 255 (kind) or 1024 (place)",
        NoControl => "must not hold control characters",
        Earth => "must be within ±900000000 (latitude) and ±1800000000 (longitude)",
        NotReserved => "must not begin with $; such kinds are the library's own",
    }
}

named! {
    /// The type of a value.
    Found.text {
        Null => "null", Boolean => "a boolean", Integer => "an integer", Number => "a number that is no plain integer",
        String => "a string", Array => "an array", Object => "an object",
    }
}

/// Reads one line of an import file, without its line end.
pub fn parse_line(line: &[u8]) -> Result<Imported<'_>, ImportError> {
    let line = std::str::from_utf8(line).map_err(|_| of_line(Rule::Utf8))?;
    let values = Values::read(line)?;
    let imported = Imported {
        flow: values.needed::<Text>(Key::Flow, Rule::Text)?.0,
        euid: values
            .optional::<Hex<16>>(Key::Euid, Rule::Euid)?
            .map(|euid| euid.0),
        when: values.needed::<Integer>(Key::When, Rule::Time)?.0,
        place: values.needed::<Option<Where>>(Key::Where, Rule::Place)?,
        who: values.optional::<Text>(Key::Who, Rule::Text)?.map(|who| who.0),
        kind: values.needed::<Text>(Key::Kind, Rule::Text)?.0,
        version: values.optional::<u16>(Key::Version, Rule::Version)?.unwrap_or(1),
        body: values.needed::<Text>(Key::Body, Rule::Text)?.0,
    };
    check(&imported).map_err(of_invalid)?;
    Ok(imported)
}

/// Format 1's rules for the fields, and that a caller's kind is none of the library's.
fn check(imported: &Imported<'_>) -> Result<(), Invalid> {
    check_text(event::Field::Flow, &imported.flow, FLOW_MAX)?;
    if imported.kind.starts_with('$') {
        return Err(Invalid {
            field: event::Field::Kind,
            rule: event::Rule::Reserved,
        });
    }
    Event {
        euid: imported.euid.unwrap_or_default(),
        when: imported.when,
        recorded_at: 0,
        commitment: [0; 32],
        late: false,
        revision: 0,
        kind: &imported.kind,
        version: imported.version,
        place: imported.place(),
        who: imported.who.as_deref(),
    }
    .check()
}

fn of_line(rule: Rule) -> ImportError {
    ImportError {
        key: None,
        rule,
        found: None,
    }
}

fn of_key(key: Key, rule: Rule) -> ImportError {
    ImportError {
        key: Some(key),
        rule,
        found: None,
    }
}

fn of_invalid(invalid: Invalid) -> ImportError {
    let key = Key::ALL
        .iter()
        .copied()
        .find(|key| key.name() == invalid.field.name());
    let rule = match invalid.rule {
        event::Rule::Empty => Rule::NotEmpty,
        event::Rule::TooLong => Rule::Length,
        event::Rule::Control => Rule::NoControl,
        event::Rule::Range if key == Some(Key::When) => Rule::Time,
        event::Rule::Range => Rule::Earth,
        event::Rule::Reserved => Rule::NotReserved,
    };
    ImportError {
        key,
        rule,
        found: None,
    }
}

/// The values of a line as they stand in it, each key at most once.
#[derive(Default)]
struct Values<'a>(Vec<(Key, &'a RawValue)>);

impl<'a> Values<'a> {
    fn read(line: &'a str) -> Result<Self, ImportError> {
        let (mut values, mut wrong) = (Self::default(), None);
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let read = deserializer.deserialize_map(Collect {
            values: &mut values,
            wrong: &mut wrong,
        });
        match read.and_then(|()| deserializer.end()) {
            Ok(()) => Ok(values),
            Err(_) => Err(wrong.unwrap_or(of_line(Rule::Object))),
        }
    }

    fn get(&self, key: Key) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(there, _)| *there == key)
            .map(|(_, value)| *value)
    }

    fn needed<T: Deserialize<'a>>(&self, key: Key, rule: Rule) -> Result<T, ImportError> {
        let value = self.get(key).ok_or(of_key(key, Rule::There))?;
        serde_json::from_str(value.get()).map_err(|_| ImportError {
            found: Some(Found::of(value)),
            ..of_key(key, rule)
        })
    }

    /// A key that may be missing may also be null.
    fn optional<T: Deserialize<'a>>(&self, key: Key, rule: Rule) -> Result<Option<T>, ImportError> {
        self.get(key).map_or(Ok(None), |_| self.needed(key, rule))
    }
}

impl Found {
    fn of(value: &RawValue) -> Self {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            _ if text == "-0" || text.contains(['.', 'e', 'E']) => Self::Number,
            _ => Self::Integer,
        }
    }
}

struct Collect<'v, 'a> {
    values: &'v mut Values<'a>,
    wrong: &'v mut Option<ImportError>,
}

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Text>()? {
            let key = Key::ALL.iter().copied().find(|key| key.name() == name.0);
            let wrong = match key {
                None => of_line(Rule::Known),
                Some(key) if self.values.get(key).is_some() => of_key(key, Rule::Once),
                Some(key) => {
                    self.values.0.push((key, map.next_value()?));
                    continue;
                }
            };
            *self.wrong = Some(wrong);
            return Err(A::Error::custom(wrong.rule.text()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str =
        r#"{"flow":"patient/1","when":-5,"where":{"place":"ward/7"},"kind":"vital","body":"37.2 °C"}"#;

    fn error(line: &str) -> String {
        parse_line(line.as_bytes())
            .map(drop)
            .map_err(|error| error.to_string())
            .unwrap_err()
    }

    fn with(key: &str, value: &str) -> String {
        let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(LINE).unwrap();
        line.remove(key);
        let mut line = serde_json::to_string(&line).unwrap();
        line.truncate(line.len() - 1);
        format!("{line},\"{key}\":{value}}}")
    }

    #[test]
    fn a_line_with_only_what_is_needed() {
        let imported = parse_line(LINE.as_bytes()).unwrap();
        assert_eq!(
            (&*imported.flow, imported.when, &*imported.kind),
            ("patient/1", -5, "vital")
        );
        assert_eq!((&*imported.body, imported.version), ("37.2 °C", 1));
        assert_eq!((imported.euid, imported.who.as_deref()), (None, None));
        assert_eq!(imported.place(), event::Where::Place("ward/7"));
    }

    #[test]
    fn a_line_with_everything_in_any_order() {
        let line = br#" {"body":"a\n\u00e9","version":65535,"who":"Dr \"X\"","euid":"00112233445566778899aabbccddeeff",
            "kind":"k","where":{"geo":[-900000000,1800000000]},"when":9007199254740991,"flow":"f"} "#;
        let imported = parse_line(line).unwrap();
        assert_eq!(
            (&*imported.body, imported.version, imported.when),
            ("a\né", 65535, 9007199254740991)
        );
        assert_eq!(imported.who.as_deref(), Some("Dr \"X\""));
        assert_eq!(imported.euid.unwrap()[..3], [0x00, 0x11, 0x22]);
        assert_eq!(
            imported.place(),
            event::Where::Geo {
                lat: -900_000_000,
                lon: 1_800_000_000
            }
        );
    }

    #[test]
    fn optional_keys_may_be_null_and_where_too() {
        for key in ["euid", "who", "version"] {
            assert_eq!(
                parse_line(with(key, "null").as_bytes()),
                parse_line(LINE.as_bytes()),
                "{key}"
            );
        }
        assert_eq!(
            parse_line(with("where", "null").as_bytes()).unwrap().place(),
            event::Where::Nowhere
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for line in [
            "",
            "{",
            "[]",
            "null",
            "\u{feff}{}",
            "{} {}",
            "{},",
            "{\"flow\":}",
            &LINE[..LINE.len() - 1],
        ] {
            assert_eq!(error(line), "line: must be one JSON object", "{line}");
        }
        assert_eq!(
            parse_line(b"{\"flow\":\"\xff\"}").unwrap_err(),
            of_line(Rule::Utf8)
        );
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse_line(with("where", &nested).as_bytes()).is_err());
    }

    #[test]
    fn keys_are_known_there_and_once() {
        assert_eq!(error(&with("ward", "1")), format!("line: {}", Rule::Known.text()));
        for key in ["flow", "when", "where", "kind", "body"] {
            let without = LINE.replace(&format!("\"{key}\":"), "\"who\":\"w\",\"x\":");
            assert_eq!(error(&without), format!("line: {}", Rule::Known.text()));
            let twice = LINE.replacen('{', &format!("{{\"{key}\":1,"), 1);
            assert_eq!(error(&twice), format!("{key}: must stand only once"));
        }
        let escaped = LINE.replacen('{', r#"{"fl\u006fw":"x","#, 1);
        assert_eq!(error(&escaped), "flow: must stand only once");
        assert_eq!(error("{}"), "flow: must be there");
        assert_eq!(error(r#"{"flow":"f"}"#), "when: must be there");
        assert_eq!(error(r#"{"flow":"f","when":1}"#), "where: must be there");
    }

    #[test]
    fn a_wrong_value_is_named_by_key_rule_and_type_and_never_shown() {
        let table = [
            ("flow", "7", Rule::Text, Some(Found::Integer)),
            ("flow", "\"\"", Rule::NotEmpty, None),
            ("when", "\"Jane\"", Rule::Time, Some(Found::String)),
            ("when", "1.0", Rule::Time, Some(Found::Number)),
            ("when", "1e3", Rule::Time, Some(Found::Number)),
            ("when", "-0", Rule::Time, Some(Found::Number)),
            ("when", "9007199254740992", Rule::Time, Some(Found::Integer)),
            ("when", "99999999999999999999", Rule::Time, Some(Found::Integer)),
            ("when", "null", Rule::Time, Some(Found::Null)),
            ("where", "\"Jane\"", Rule::Place, Some(Found::String)),
            ("where", "{\"place\":1}", Rule::Place, Some(Found::Object)),
            (
                "where",
                "{\"place\":\"a\",\"place\":\"b\"}",
                Rule::Place,
                Some(Found::Object),
            ),
            (
                "where",
                "{\"place\":\"a\",\"geo\":[1,2]}",
                Rule::Place,
                Some(Found::Object),
            ),
            ("where", "{\"place\":\"\"}", Rule::NotEmpty, None),
            ("where", "{\"geo\":[1]}", Rule::Place, Some(Found::Object)),
            ("where", "{\"geo\":[1,2,3]}", Rule::Place, Some(Found::Object)),
            ("where", "{\"geo\":[1.5,2]}", Rule::Place, Some(Found::Object)),
            ("where", "{\"geo\":[900000001,0]}", Rule::Earth, None),
            ("where", "{}", Rule::Place, Some(Found::Object)),
            ("who", "[\"Jane\"]", Rule::Text, Some(Found::Array)),
            ("who", "\"\"", Rule::NotEmpty, None),
            ("who", "\"Jane\\n\"", Rule::NoControl, None),
            ("kind", "true", Rule::Text, Some(Found::Boolean)),
            ("kind", "\"$close\"", Rule::NotReserved, None),
            ("kind", "\"$Jane\"", Rule::NotReserved, None),
            ("version", "65536", Rule::Version, Some(Found::Integer)),
            ("version", "-1", Rule::Version, Some(Found::Integer)),
            (
                "euid",
                "\"00112233445566778899AABBCCDDEEFF\"",
                Rule::Euid,
                Some(Found::String),
            ),
            ("euid", "\"0011\"", Rule::Euid, Some(Found::String)),
            ("body", "{\"Jane\":1}", Rule::Text, Some(Found::Object)),
            ("body", "\"\\ud83d\"", Rule::Text, Some(Found::String)),
        ];
        for (key, value, rule, found) in table {
            let line = with(key, value);
            let error = parse_line(line.as_bytes()).unwrap_err();
            assert_eq!(
                (error.key.map(Key::name), error.rule, error.found),
                (Some(key), rule, found),
                "{line}"
            );
            assert!(!error.to_string().contains("Jane"));
        }
    }

    #[test]
    fn texts_end_at_their_limits() {
        for (key, max) in [("flow", 512), ("kind", 255), ("who", 512)] {
            let line = |length| with(key, &format!("\"{}\"", "x".repeat(length)));
            assert!(parse_line(line(max).as_bytes()).is_ok());
            assert_eq!(
                parse_line(line(max + 1).as_bytes()).unwrap_err().rule,
                Rule::Length
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_line(&line);
        }

        #[test]
        fn no_changed_byte_makes_it_panic(at in 0..LINE.len(), byte: u8) {
            let mut line = LINE.as_bytes().to_vec();
            line[at] = byte;
            let _ = parse_line(&line);
        }
    }
}

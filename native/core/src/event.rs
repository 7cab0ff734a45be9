//! An event's fields, its frame and its salted body. FORMAT.md, "Event".
use crate::suite::{Digest, Role, Suite, hash};
use crate::wire::{LIMIT, Malformed, Reader, has_control, pad, text};

/// The kind of the event that closes a flow; the only kind with a leading `$` in format 1.
pub const CLOSE: &str = "$close";

/// Greatest length of a kind, in bytes.
pub const KIND_MAX: usize = 255;
/// Greatest length of a place, in bytes.
pub const PLACE_MAX: usize = 1024;
/// Greatest length of a who, in bytes.
pub const WHO_MAX: usize = 512;
/// Greatest latitude, in 10⁻⁷ degrees.
pub const LATITUDE_MAX: i32 = 900_000_000;
/// Greatest longitude, in 10⁻⁷ degrees.
pub const LONGITUDE_MAX: i32 = 1_800_000_000;
/// Shortest and longest frame, in bytes.
pub const FRAME_MIN: usize = 128;
/// Longest frame, in bytes.
pub const FRAME_MAX: usize = 1920;

/// Where the commitment stands in a frame.
pub(crate) const COMMITMENT_AT: usize = 32;
/// Where the flags stand in a frame.
pub(crate) const FLAGS_AT: usize = 64;
const WHEN_AT: usize = 16;
pub(crate) const LATE: u8 = 1;

/// One event as it is hashed: the commitment stands for the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Names the event from its appearance on.
    pub euid: [u8; 16],
    /// When it happened, in microseconds of UNIX time.
    pub when: i64,
    /// The store's clock when it appeared.
    pub recorded_at: i64,
    /// Salted hash of the body.
    pub commitment: Digest,
    /// Whether `when` is before the greatest `when` of an earlier position.
    pub late: bool,
    /// How often it was amended in the pool.
    pub revision: u16,
    /// What it is.
    pub kind: &'a str,
    /// The version of its kind.
    pub version: u16,
    /// Where it happened.
    pub place: Where<'a>,
    /// Who says so.
    pub who: Option<&'a str>,
}

/// Where an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where<'a> {
    /// Not said.
    Nowhere,
    /// A node of the tree of places.
    Place(&'a str),
    /// A geographic position, in 10⁻⁷ degrees.
    Geo {
        /// Latitude, within ±90°.
        lat: i32,
        /// Longitude, within ±180°.
        lon: i32,
    },
}

/// A field that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field.
    pub field: Field,
    /// The rule.
    pub rule: Rule,
}

/// The fields that have rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A flow's id.
    Flow,
    /// A flow's `created_at`.
    CreatedAt,
    /// `when`.
    When,
    /// `recorded_at`.
    RecordedAt,
    /// `kind`.
    Kind,
    /// `where`.
    Where,
    /// `who`.
    Who,
}

impl Field {
    /// The field's name, as in the interchange form.
    pub fn name(self) -> &'static str {
        match self {
            Field::Flow => "flow",
            Field::CreatedAt => "created_at",
            Field::When => "when",
            Field::RecordedAt => "recorded_at",
            Field::Kind => "kind",
            Field::Where => "where",
            Field::Who => "who",
        }
    }
}

/// The rules a field can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A text must not be empty.
    Empty,
    /// A text is too long.
    TooLong,
    /// A text holds a control character.
    Control,
    /// A number is out of its range.
    Range,
    /// A kind with a leading `$` is the library's own.
    Reserved,
}

impl Rule {
    /// The rule's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Empty => "empty",
            Rule::TooLong => "too_long",
            Rule::Control => "control",
            Rule::Range => "range",
            Rule::Reserved => "reserved",
        }
    }
}

impl<'a> Event<'a> {
    /// Appends the frame to `out`; on error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Invalid> {
        self.check()?;
        let start = out.len();
        out.extend_from_slice(&self.euid);
        out.extend_from_slice(&self.when.to_be_bytes());
        out.extend_from_slice(&self.recorded_at.to_be_bytes());
        out.extend_from_slice(&self.commitment);
        out.push(if self.late { LATE } else { 0 });
        out.extend_from_slice(&self.revision.to_be_bytes());
        text(out, self.kind);
        out.extend_from_slice(&self.version.to_be_bytes());
        self.place.encode(out);
        text(out, self.who.unwrap_or_default());
        pad(out, start);
        Ok(())
    }

    /// Reads a frame, strictly: every byte of it has one meaning.
    pub fn decode(frame: &'a [u8]) -> Result<Event<'a>, Malformed> {
        let mut reader = Reader::new(frame);
        let euid = *reader.array("euid")?;
        let when = reader.time("when")?;
        let recorded_at = reader.time("recorded_at")?;
        let commitment = *reader.digest("commitment")?;
        let flags_at = reader.at();
        let flags = reader.u8("flags")?;
        if flags > LATE {
            return Err(Malformed::new(flags_at, "flags"));
        }
        let revision = reader.u16("revision")?;
        let kind_at = reader.at();
        let kind = reader.text(1, KIND_MAX, "kind")?;
        if is_reserved(kind) {
            return Err(Malformed::new(kind_at, "kind"));
        }
        let version = reader.u16("version")?;
        let place = Where::decode(&mut reader)?;
        let who = Some(reader.text(0, WHO_MAX, "who")?).filter(|who| !who.is_empty());
        reader.zeros_to_unit(0)?;
        reader.end()?;
        let late = flags == LATE;
        Ok(Event {
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
        })
    }

    /// Whether this event closes its flow.
    pub fn closes(&self) -> bool {
        self.kind == CLOSE
    }

    pub(crate) fn check(&self) -> Result<(), Invalid> {
        check_time(Field::When, self.when)?;
        check_time(Field::RecordedAt, self.recorded_at)?;
        check_text(Field::Kind, self.kind, KIND_MAX)?;
        if is_reserved(self.kind) {
            return Err(Invalid {
                field: Field::Kind,
                rule: Rule::Reserved,
            });
        }
        self.place.check()?;
        self.who
            .map_or(Ok(()), |who| check_text(Field::Who, who, WHO_MAX))
    }
}

/// Frames read one after the other. What stands behind the commitment is often the same as in the frame before: then it is
/// not read again, and only the times are.
#[derive(Default)]
pub(crate) struct Frames<'a> {
    behind: &'a [u8],
    closes: bool,
}

impl<'a> Frames<'a> {
    /// Reads a frame as strictly as [`Event::decode`]. Whether the event closes its flow.
    pub(crate) fn closes(&mut self, frame: &'a [u8]) -> Result<bool, Malformed> {
        let (front, behind) = frame.split_at(FLAGS_AT.min(frame.len()));
        if behind.is_empty() || behind != self.behind || !in_time(front) {
            self.closes = Event::decode(frame)?.closes();
            self.behind = behind;
        }
        Ok(self.closes)
    }
}

/// Whether `when` and `recorded_at` are in their range, in what stands before the flags.
fn in_time(front: &[u8]) -> bool {
    let mut reader = Reader::new(front);
    reader.take(WHEN_AT, "euid").is_ok() && reader.time("when").is_ok() && reader.time("recorded_at").is_ok()
}

impl<'a> Where<'a> {
    fn check(&self) -> Result<(), Invalid> {
        match *self {
            Where::Nowhere => Ok(()),
            Where::Place(place) => check_text(Field::Where, place, PLACE_MAX),
            Where::Geo { lat, lon } if on_earth(lat, lon) => Ok(()),
            Where::Geo { .. } => Err(Invalid {
                field: Field::Where,
                rule: Rule::Range,
            }),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Where::Nowhere => out.push(0),
            Where::Place(place) => {
                out.push(1);
                text(out, place);
            }
            Where::Geo { lat, lon } => {
                out.push(2);
                out.extend_from_slice(&lat.to_be_bytes());
                out.extend_from_slice(&lon.to_be_bytes());
            }
        }
    }

    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Where<'a>, Malformed> {
        let at = reader.at();
        match reader.u8("where")? {
            0 => Ok(Where::Nowhere),
            1 => reader.text(1, PLACE_MAX, "where").map(Where::Place),
            2 => {
                let (lat, lon) = (reader.i32("where")?, reader.i32("where")?);
                if on_earth(lat, lon) {
                    Ok(Where::Geo { lat, lon })
                } else {
                    Err(Malformed::new(at, "where"))
                }
            }
            _ => Err(Malformed::new(at, "where")),
        }
    }
}

fn on_earth(lat: i32, lon: i32) -> bool {
    (-LATITUDE_MAX..=LATITUDE_MAX).contains(&lat) && (-LONGITUDE_MAX..=LONGITUDE_MAX).contains(&lon)
}

fn is_reserved(kind: &str) -> bool {
    kind.starts_with('$') && kind != CLOSE
}

pub(crate) fn check_time(field: Field, value: i64) -> Result<(), Invalid> {
    if (-LIMIT..=LIMIT).contains(&value) {
        Ok(())
    } else {
        Err(Invalid {
            field,
            rule: Rule::Range,
        })
    }
}

pub(crate) fn check_text(field: Field, text: &str, max: usize) -> Result<(), Invalid> {
    let rule = match text.len() {
        0 => Rule::Empty,
        length if length > max => Rule::TooLong,
        _ if has_control(text) => Rule::Control,
        _ => return Ok(()),
    };
    Err(Invalid { field, rule })
}

/// The salted body: what the commitment is the hash of.
pub fn salted_body(salt: &[u8; 16], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(salted_size(body.len()));
    put_salted_body(&mut out, salt, body);
    out
}

/// The length of the salted body of so many bytes.
pub fn salted_size(body: usize) -> usize {
    crate::wire::padded(24 + body)
}

/// Appends a salted body to what stands in `out`.
pub fn put_salted_body(out: &mut Vec<u8>, salt: &[u8; 16], body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(salt);
    out.extend_from_slice(&(body.len() as u64).to_be_bytes());
    out.extend_from_slice(body);
    pad(out, start);
}

/// Salt and body of a salted body, read strictly.
pub fn decode_salted_body(bytes: &[u8]) -> Result<(&[u8; 16], &[u8]), Malformed> {
    let mut reader = Reader::new(bytes);
    let salt = reader.array("salt")?;
    let length = reader.u64("body")?;
    let length = usize::try_from(length).map_err(|_| Malformed::new(16, "body"))?;
    let body = reader.take(length, "body")?;
    reader.zeros_to_unit(0)?;
    reader.end()?;
    Ok((salt, body))
}

/// The commitment to a salted body.
pub fn commitment(suite: Suite, salted_body: &[u8]) -> Digest {
    hash(suite, Role::Body, &[salted_body])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Event<'static> = Event {
        euid: [9; 16],
        when: -1,
        recorded_at: 2,
        commitment: [3; 32],
        late: false,
        revision: 4,
        kind: "k",
        version: 5,
        place: Where::Nowhere,
        who: None,
    };

    fn frame(event: &Event) -> Vec<u8> {
        let mut out = vec![1];
        event.encode(&mut out).unwrap();
        out.split_off(1)
    }

    fn rule(event: Event) -> Option<(&'static str, &'static str)> {
        let mut out = Vec::new();
        let result = event
            .encode(&mut out)
            .err()
            .map(|e| (e.field.name(), e.rule.name()));
        assert_eq!(result.is_some(), out.is_empty());
        result
    }

    #[test]
    fn frames_come_back_at_every_length_around_a_padding_edge() {
        for length in 1..=255 {
            let kind = "k".repeat(length);
            let event = Event {
                kind: &kind,
                late: true,
                who: Some("w"),
                ..PLAIN
            };
            let frame = frame(&event);
            assert_eq!(frame.len(), (74 + length + 1).next_multiple_of(64));
            assert_eq!(Event::decode(&frame), Ok(event));
        }
    }

    #[test]
    fn the_shortest_and_the_longest_frame() {
        assert_eq!(frame(&PLAIN).len(), FRAME_MIN);
        let (kind, place, who) = ("k".repeat(KIND_MAX), "p".repeat(PLACE_MAX), "w".repeat(WHO_MAX));
        let event = Event {
            kind: &kind,
            place: Where::Place(&place),
            who: Some(&who),
            ..PLAIN
        };
        assert_eq!(frame(&event).len(), FRAME_MAX);
        assert_eq!(Event::decode(&frame(&event)), Ok(event));
    }

    #[test]
    fn every_limit_holds_at_its_edge_and_breaks_behind_it() {
        let long = "x".repeat(1025);
        let place = |n: usize| Event {
            place: Where::Place(&long[..n]),
            ..PLAIN
        };
        let geo = |lat, lon| Event {
            place: Where::Geo { lat, lon },
            ..PLAIN
        };
        for event in [
            Event { when: LIMIT, ..PLAIN },
            Event {
                when: -LIMIT,
                ..PLAIN
            },
            Event {
                kind: &long[..255],
                ..PLAIN
            },
            Event { kind: CLOSE, ..PLAIN },
            Event {
                who: Some(&long[..512]),
                ..PLAIN
            },
            Event {
                version: u16::MAX,
                revision: u16::MAX,
                ..PLAIN
            },
            Event {
                kind: "\u{a0}é 🏥",
                ..PLAIN
            },
            place(1),
            place(1024),
            geo(LATITUDE_MAX, -LONGITUDE_MAX),
            geo(-LATITUDE_MAX, LONGITUDE_MAX),
        ] {
            assert_eq!(Event::decode(&frame(&event)), Ok(event));
        }
        assert_eq!(
            rule(Event {
                when: LIMIT + 1,
                ..PLAIN
            }),
            Some(("when", "range"))
        );
        assert_eq!(
            rule(Event {
                when: i64::MIN,
                ..PLAIN
            }),
            Some(("when", "range"))
        );
        assert_eq!(
            rule(Event {
                recorded_at: -LIMIT - 1,
                ..PLAIN
            }),
            Some(("recorded_at", "range"))
        );
        assert_eq!(rule(Event { kind: "", ..PLAIN }), Some(("kind", "empty")));
        assert_eq!(
            rule(Event {
                kind: &long[..256],
                ..PLAIN
            }),
            Some(("kind", "too_long"))
        );
        assert_eq!(
            rule(Event {
                kind: "$closed",
                ..PLAIN
            }),
            Some(("kind", "reserved"))
        );
        for control in ["\0", "a\u{1f}", "\u{7f}", "\u{80}", "é\u{9f}"] {
            assert_eq!(
                rule(Event {
                    kind: control,
                    ..PLAIN
                }),
                Some(("kind", "control"))
            );
        }
        assert_eq!(
            rule(Event {
                who: Some(""),
                ..PLAIN
            }),
            Some(("who", "empty"))
        );
        assert_eq!(
            rule(Event {
                who: Some(&long[..513]),
                ..PLAIN
            }),
            Some(("who", "too_long"))
        );
        assert_eq!(rule(place(0)), Some(("where", "empty")));
        assert_eq!(rule(place(1025)), Some(("where", "too_long")));
        assert_eq!(rule(geo(LATITUDE_MAX + 1, 0)), Some(("where", "range")));
        assert_eq!(rule(geo(0, -LONGITUDE_MAX - 1)), Some(("where", "range")));
        assert_eq!(rule(geo(0, i32::MIN)), Some(("where", "range")));
    }

    #[test]
    fn a_frame_with_any_wrong_byte_count_tag_or_padding_is_refused() {
        let good = frame(&Event {
            place: Where::Place("p"),
            who: Some("w"),
            ..PLAIN
        });
        for length in 0..good.len() {
            assert!(Event::decode(&good[..length]).is_err(), "{length}");
        }
        let longer = [good.as_slice(), &[0; 64]].concat();
        assert!(Event::decode(&longer).is_err());
        let wrong = |at: usize, byte: u8| {
            let mut frame = good.clone();
            frame[at] = byte;
            Event::decode(&frame)
                .map(|_| ())
                .map_err(|malformed| malformed.what)
        };
        assert_eq!(wrong(64, 2), Err("flags"));
        assert_eq!(wrong(64, 0x80), Err("flags"));
        assert_eq!(wrong(68, 0), Err("kind"));
        assert_eq!(wrong(69, b'$'), Err("kind"));
        assert_eq!(wrong(69, 0xff), Err("kind"));
        assert_eq!(wrong(72, 3), Err("where"));
        assert_eq!(wrong(127, 1), Err("padding"));
        assert_eq!(wrong(16, 0x7f), Err("when"));
    }

    #[test]
    fn frames_read_one_after_the_other_are_what_they_are_alone() {
        let plain = frame(&PLAIN);
        let close = frame(&Event { kind: CLOSE, ..PLAIN });
        let longer = [plain.as_slice(), &[0; 64]].concat();
        let mut all = vec![
            close.clone(),
            plain.clone(),
            plain.clone(),
            longer,
            Vec::new(),
            vec![0; 64],
            close,
        ];
        for at in 0..plain.len() {
            let mut other = plain.clone();
            other[at] ^= 0x40;
            all.extend([plain.clone(), other.clone(), other, plain[..at].to_vec()]);
        }
        let mut frames = Frames::default();
        for frame in &all {
            let alone = Event::decode(frame).map(|event| event.closes());
            assert_eq!(frames.closes(frame), alone, "{frame:?}");
        }
    }

    #[test]
    fn salted_bodies_come_back_at_every_padding_edge() {
        for length in [0, 1, 39, 40, 41, 103, 104, 105, 1000] {
            let body = vec![7; length];
            let salted = salted_body(&[1; 16], &body);
            assert_eq!(salted.len() % 64, 0);
            assert_eq!(decode_salted_body(&salted), Ok((&[1; 16], body.as_slice())));
            assert!(decode_salted_body(&salted[..salted.len() - 1]).is_err());
            assert!(decode_salted_body(&[salted.as_slice(), &[0; 64]].concat()).is_err());
        }
        let mut salted = salted_body(&[1; 16], b"abc");
        salted[63] = 1;
        assert_eq!(decode_salted_body(&salted).unwrap_err().what, "padding");
        salted[16..24].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(decode_salted_body(&salted).unwrap_err().what, "body");
    }
}

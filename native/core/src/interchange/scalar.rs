//! The scalars of the JSON forms, each with exactly one way to write it (FORMAT.md, "Strict decoding").
//!
//! No message here holds what was read: it may be a patient's.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Deserialize as Derive, Serialize, Serializer};

use crate::wire::LIMIT;
use crate::wire::text::{from_hex, to_hex};

/// `N` bytes as lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// Bytes as padded, canonical base64 (RFC 4648, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64<'a>(pub Cow<'a, [u8]>);

/// An integer within ±(2⁵³−1), written without fraction or exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer(pub i64);

/// An integer from 0 to 2⁵³−1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Natural(pub u64);

/// A text, borrowed from the line unless it holds an escape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Derive)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(OfText("lower-case hex of the exact length", from_hex))
            .map(Self)
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // This engine asks for the padding and for zero bits after the last byte.
        let decode = |text: &str| STANDARD.decode(text).ok();
        deserializer
            .deserialize_str(OfText("canonical padded base64", decode))
            .map(|bytes| Self(Cow::Owned(bytes)))
    }
}

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            value if value.unsigned_abs() <= LIMIT.unsigned_abs() => Ok(Self(value)),
            _ => Err(D::Error::custom("an integer out of range")),
        }
    }
}

impl Serialize for Natural {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Natural {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            value if value <= LIMIT.unsigned_abs() => Ok(Self(value)),
            _ => Err(D::Error::custom("an integer out of range")),
        }
    }
}

/// Reads a string through a function that refuses what is not canonical.
struct OfText<F>(&'static str, F);

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for OfText<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| E::custom(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'a> Deserialize<'a>>(json: &str) -> Option<T> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn hex_has_one_form() {
        assert_eq!(read(r#""00ff1a""#), Some(Hex([0x00, 0xff, 0x1a])));
        assert_eq!(
            serde_json::to_string(&Hex([0x00, 0xff, 0x1a])).unwrap(),
            r#""00ff1a""#
        );
        for bad in [
            r#""00FF1a""#,
            r#""00ff1""#,
            r#""00ff1a0""#,
            r#""00ff1a00""#,
            r#""00ff""#,
            r#""0xff1a""#,
        ] {
            assert_eq!(read::<Hex<3>>(bad), None, "{bad}");
        }
        for bad in ["null", "1", "[0,255,26]", r#"" 00ff1a""#, r#""""#] {
            assert_eq!(read::<Hex<3>>(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_has_one_form() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Pz8/", "???"),
        ] {
            let json = format!("\"{text}\"");
            let value = Base64(bytes.as_bytes().into());
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(read(&json), Some(value));
        }
        for bad in [
            "Zg", "Zg=", "Zh==", "Zm9=", "Pz8_", "Zg==\\n", " Zg==", "Zg==Zg==", "====", "Zm9v=",
        ] {
            assert_eq!(read::<Base64>(&format!("\"{bad}\"")), None, "{bad}");
        }
    }

    #[test]
    fn integers_are_integers_in_range() {
        assert_eq!(read("9007199254740991"), Some(Integer(LIMIT)));
        assert_eq!(read("-9007199254740991"), Some(Integer(-LIMIT)));
        assert_eq!(read("9007199254740991"), Some(Natural(LIMIT as u64)));
        for bad in [
            "9007199254740992",
            "-9007199254740992",
            "1.0",
            "1e3",
            "-0",
            "01",
            "+1",
            "\"1\"",
            "true",
            "null",
        ] {
            assert_eq!(read::<Integer>(bad), None, "{bad}");
            assert_eq!(read::<Natural>(bad), None, "{bad}");
        }
        for bad in ["-1", "99999999999999999999999", "1e400"] {
            assert_eq!(read::<Natural>(bad), None, "{bad}");
        }
    }
}

//! Verifier keys and their text form. FORMAT.md, "Signed notes".
use std::fmt;

use ed25519_dalek::{Signature as Ed25519, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::{Signature, is_name};
use crate::wire::text::{from_base64, from_hex, to_base64, to_hex};

/// Greatest length of a key's name, in bytes.
pub const NAME_MAX: usize = 255;

/// What a key is for. One key serves one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It signs the checkpoints of a log.
    Log,
    /// It cosigns them, with a time.
    Witness,
    /// It signs receipts.
    Receipts,
}

impl Purpose {
    const ALL: [Purpose; 3] = [Purpose::Log, Purpose::Witness, Purpose::Receipts];

    /// The signature type of C2SP signed-note; one that has no byte of its own there has `ff` and a longer name.
    pub(super) fn kind(self) -> &'static [u8] {
        match self {
            Purpose::Log => &[1],
            Purpose::Witness => &[4],
            Purpose::Receipts => b"\xffevent-seal/1 receipt",
        }
    }

    /// The purpose that these bytes begin with, and the key behind it.
    pub(super) fn of(bytes: &[u8]) -> Result<(Purpose, &[u8; 32]), KeyError> {
        if bytes.is_empty() {
            return Err(KeyError::Format);
        }
        let after = |purpose: Purpose| Some((purpose, bytes.strip_prefix(purpose.kind())?));
        let (purpose, key) = Purpose::ALL.into_iter().find_map(after).ok_or(KeyError::Type)?;
        Ok((purpose, key.try_into().map_err(|_| KeyError::Format)?))
    }
}

/// Why something is not a verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It is not `name+id+key`, in the one way to write it.
    Format,
    /// The name is empty, too long, or holds a space, a plus or a control character.
    Name,
    /// A signature type that is not used here.
    Type,
    /// The id is not that of the key.
    Id,
    /// The bytes are not those of an Ed25519 key, or of one for which signatures can be forged.
    Point,
}

/// An Ed25519 key that verifies, its name and its purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    purpose: Purpose,
    id: [u8; 4],
    public: VerifyingKey,
}

impl VerifierKey {
    /// The key of this name and purpose.
    pub fn new(name: &str, purpose: Purpose, public: &[u8; 32]) -> Result<VerifierKey, KeyError> {
        if !is_name(name) || name.len() > NAME_MAX {
            return Err(KeyError::Name);
        }
        let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::Point)?;
        if key.is_weak() || !is_canonical(public) {
            return Err(KeyError::Point);
        }
        Ok(VerifierKey {
            name: name.to_owned(),
            purpose,
            id: id(name, purpose, public),
            public: key,
        })
    }

    /// Reads the text form: name, id in hex, and base64 of type and key, with pluses between.
    pub fn parse(text: &str) -> Result<VerifierKey, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Format)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Format)?;
        let id = from_hex(id).ok_or(KeyError::Format)?;
        let key = from_base64(key).ok_or(KeyError::Format)?;
        let (purpose, public) = Purpose::of(&key)?;
        let key = VerifierKey::new(name, purpose, public)?;
        if key.id == id { Ok(key) } else { Err(KeyError::Id) }
    }

    /// Its name; of a log's key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Its short id.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The key itself.
    pub fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// Whether a line claims to be of this key: name and id are the same.
    pub fn is_of(&self, signature: &Signature<'_>) -> bool {
        self.name == signature.name && self.id == signature.id
    }

    /// The line that says: this is this key's signature.
    pub fn line(&self, signature: &[u8]) -> String {
        let (name, id) = (self.name(), self.id);
        let bytes = signature.to_vec();
        Signature { name, id, bytes }.line()
    }

    /// Whether these bytes are this key's signature, strictly (RFC 8032 and no key or point of small order).
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = signature.try_into().map(Ed25519::from_bytes);
        signature.is_ok_and(|signature| self.public.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [self.purpose.kind(), self.public()].concat();
        write!(out, "{}+{}+{}", self.name, to_hex(&self.id), to_base64(&key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "VerifierKey({self})")
    }
}

fn id(name: &str, purpose: Purpose, public: &[u8; 32]) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update(b"\n");
    hasher.update(purpose.kind());
    hasher.update(public);
    let [a, b, c, d, ..] = <[u8; 32]>::from(hasher.finalize());
    [a, b, c, d]
}

/// Whether y is below the field's 2²⁵⁵−19: so no key has two forms.
fn is_canonical(public: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = public;
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signer;

    fn key(purpose: Purpose) -> VerifierKey {
        Signer::new("clinic.example/log", purpose, &[7; 32])
            .unwrap()
            .verifier()
            .clone()
    }

    #[test]
    fn the_text_form_comes_back_and_purpose_changes_the_id() {
        let keys = Purpose::ALL.map(key);
        for key in &keys {
            assert_eq!(VerifierKey::parse(&key.to_string()).as_ref(), Ok(key));
        }
        let [log, witness, receipts] = &keys;
        assert_eq!(log.public(), witness.public());
        assert_eq!(log.public(), receipts.public());
        assert_ne!(log.id(), witness.id());
        assert_ne!(log.id(), receipts.id());
        assert_ne!(witness.id(), receipts.id());
    }

    #[test]
    fn every_changed_character_of_the_text_form_is_refused_or_is_another_key() {
        for text in Purpose::ALL.map(|purpose| key(purpose).to_string()) {
            for at in 0..text.len() {
                for byte in 0..0x80 {
                    let mut changed = text.clone().into_bytes();
                    changed[at] = byte;
                    let changed = String::from_utf8(changed).unwrap();
                    assert!(
                        changed == text || VerifierKey::parse(&changed).is_err(),
                        "{changed}"
                    );
                }
                assert!(VerifierKey::parse(&text[..at]).is_err());
            }
        }
    }

    #[test]
    fn other_types_forms_and_names_are_refused_by_name() {
        let parse = |text: &str| VerifierKey::parse(text).unwrap_err();
        let text = key(Purpose::Log).to_string();
        let upper = text.replacen(
            &to_hex(&key(Purpose::Log).id()),
            &to_hex(&key(Purpose::Log).id()).to_uppercase(),
            1,
        );
        assert_eq!(parse(&upper), KeyError::Format);
        assert_eq!(parse("a+b"), KeyError::Format);
        assert_eq!(parse("a+00000000+"), KeyError::Format);
        let of = |kind: u8, length| {
            format!(
                "a+00000000+{}",
                to_base64(&[vec![kind], vec![7; length]].concat())
            )
        };
        assert_eq!(parse(&of(2, 32)), KeyError::Type);
        assert_eq!(parse(&of(6, 1312)), KeyError::Type);
        assert_eq!(parse(&of(1, 33)), KeyError::Format);
        assert_eq!(parse(&of(0xff, 32)), KeyError::Type);
        let longest = "n".repeat(NAME_MAX);
        let public = *key(Purpose::Log).public();
        assert!(VerifierKey::new(&longest, Purpose::Log, &public).is_ok());
        assert_eq!(
            VerifierKey::new(&(longest + "n"), Purpose::Log, &public),
            Err(KeyError::Name)
        );
        for name in ["", "a b", "a\u{2003}b", "a\nb", "a+b", "\u{85}"] {
            assert_eq!(
                VerifierKey::new(name, Purpose::Log, &public),
                Err(KeyError::Name),
                "{name}"
            );
        }
    }

    /// From "Taming the many EdDSAs" (2020), table 6c, number 2: R of small order, which a lenient verifier accepts. And S
    /// with the group's order added, which is the same number.
    #[test]
    fn signatures_that_only_a_lenient_verifier_accepts_are_refused() {
        let public = "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43";
        let message = "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab";
        let signature = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa\
            8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e";
        let weak = VerifierKey::new("k", Purpose::Log, &from_hex(public).unwrap()).unwrap();
        let (message, signature) = (
            from_hex::<32>(message).unwrap(),
            from_hex::<64>(signature).unwrap(),
        );
        assert!(!weak.verifies(&message, &signature));
        use ed25519_dalek::Verifier;
        let lenient = weak.public.verify(&message, &Ed25519::from_bytes(&signature));
        assert!(lenient.is_ok());

        let mut signature =
            ed25519_dalek::Signer::sign(&ed25519_dalek::SigningKey::from_bytes(&[7; 32]), b"m").to_bytes();
        let key = key(Purpose::Log);
        assert!(key.verifies(b"m", &signature));
        let order: [u8; 32] =
            from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut carry = 0;
        for (byte, added) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(added) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert!(!key.verifies(b"m", &signature));
        assert!(!key.verifies(b"m", &signature[..63]));
    }

    /// Points of small order, for which one signature verifies many texts, and y beyond the field, a second form of a key.
    #[test]
    fn keys_that_could_be_forged_or_have_two_forms_are_refused() {
        let hex = [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for hex in hex {
            let public = from_hex(hex).unwrap();
            assert_eq!(
                VerifierKey::new("k", Purpose::Log, &public),
                Err(KeyError::Point),
                "{hex}"
            );
        }
        assert!(!is_canonical(
            &from_hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f").unwrap()
        ));
        assert!(is_canonical(
            &from_hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f").unwrap()
        ));
    }
}

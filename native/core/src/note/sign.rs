//! Signing with a key that is at hand. FORMAT.md, "Signed notes".
use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};

use zeroize::Zeroizing;

use super::{KeyError, Purpose, VerifierKey};
use crate::wire::text::{from_base64, from_hex, to_base64, to_hex};

/// What the text of a secret key begins with.
const SECRET: &str = "PRIVATE+KEY+";

/// An Ed25519 key that signs. The secret is wiped from memory when this goes, and never shown.
pub struct Signer {
    verifier: VerifierKey,
    secret: SigningKey,
}

impl Signer {
    /// The key of this name, purpose and seed (RFC 8032, section 5.1.5). The seed stays the caller's to wipe.
    pub fn new(name: &str, purpose: Purpose, seed: &[u8; 32]) -> Result<Signer, KeyError> {
        let secret = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, purpose, secret.as_ref().as_bytes())?;
        Ok(Signer { verifier, secret })
    }

    /// Reads the text form that [`Signer::secret_text`] writes.
    pub fn parse(text: &str) -> Result<Signer, KeyError> {
        let rest = text.strip_prefix(SECRET).ok_or(KeyError::Format)?;
        let (name, rest) = rest.split_once('+').ok_or(KeyError::Format)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Format)?;
        let id = from_hex(id).ok_or(KeyError::Format)?;
        let key = Zeroizing::new(from_base64(key).ok_or(KeyError::Format)?);
        let (purpose, seed) = Purpose::of(&key)?;
        let signer = Signer::new(name, purpose, seed)?;
        if signer.verifier.id() == id {
            Ok(signer)
        } else {
            Err(KeyError::Id)
        }
    }

    /// The secret key as text: as the verifier key, with `PRIVATE+KEY+` in front, and the seed in the key's place.
    pub fn secret_text(&self) -> Zeroizing<String> {
        let key = Zeroizing::new([self.verifier.purpose().kind(), self.secret.as_bytes()].concat());
        let (name, id) = (self.verifier.name(), to_hex(&self.verifier.id()));
        Zeroizing::new(format!(
            "{SECRET}{name}+{id}+{}",
            *Zeroizing::new(to_base64(&key))
        ))
    }

    /// This key's Ed25519 signature of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }

    /// The key that verifies.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The signature line of what `before` and this key's signature of the message make together.
    pub(crate) fn line(&self, before: &[u8], message: &[u8]) -> String {
        self.verifier.line(&[before, &self.sign(message)].concat())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signer({})", self.verifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        let seed = from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let signer = Signer::new("k", Purpose::Log, &seed).unwrap();
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(to_hex(signer.verifier().public()), public);
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
            085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        let bytes = [&signer.verifier().id()[..], &from_hex::<64>(signature).unwrap()].concat();
        assert_eq!(signer.line(&[], &[0x72]), format!("— k {}\n", to_base64(&bytes)));
    }

    #[test]
    fn the_text_form_of_a_secret_comes_back_and_nothing_else_is_one() {
        for purpose in [Purpose::Log, Purpose::Witness, Purpose::Receipts] {
            let signer = Signer::new("clinic.example/log", purpose, &[9; 32]).unwrap();
            let text = signer.secret_text();
            let again = Signer::parse(&text).unwrap();
            assert_eq!(
                (again.verifier(), again.sign(b"x")),
                (signer.verifier(), signer.sign(b"x"))
            );
            for at in 0..text.len() {
                assert!(Signer::parse(&text[..at]).is_err());
            }
            assert_eq!(
                Signer::parse(&text.replace("clinic", "other")).err(),
                Some(KeyError::Id)
            );
        }
    }

    #[test]
    fn the_secret_is_not_shown() {
        let signer = Signer::new("k", Purpose::Witness, &[0xab; 32]).unwrap();
        let shown = format!("{signer:?} {signer:#?}");
        assert!(
            !shown.contains("171") && !shown.to_lowercase().contains("abab"),
            "{shown}"
        );
        assert!(shown.contains(&signer.verifier().to_string()));
    }
}

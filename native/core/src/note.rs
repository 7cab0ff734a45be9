//! Signed notes (C2SP signed-note): a text, and who signed it. FORMAT.md, "Signed notes".
//!
//! Nothing here trusts anything: a text counts only once [`crate::checkpoint::Policy`] has opened the note.
use crate::wire::text::{from_base64, to_base64};
use crate::wire::{Malformed, has_control};

mod key;
mod sign;

pub use key::{KeyError, NAME_MAX, Purpose, VerifierKey};
pub use sign::Signer;

/// Greatest length of a note, in bytes.
pub const NOTE_MAX: usize = 1 << 20;
/// Most signatures of a note.
pub const SIGNATURES_MAX: usize = 100;

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "— ";

/// A note, read strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// What is signed, its last line feed included.
    pub text: &'a str,
    /// The signatures, in order.
    pub signatures: Vec<Signature<'a>>,
}

/// A signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The name of the key.
    pub name: &'a str,
    /// Its short id. Two keys may have the same.
    pub id: [u8; 4],
    /// The signature itself.
    pub bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Reads a note.
    pub fn parse(note: &'a str) -> Result<Note<'a>, Malformed> {
        let fail = |at, what| Err(Malformed::new(at, what));
        if note.len() > NOTE_MAX {
            return fail(NOTE_MAX, "length");
        }
        if let Some(at) = note.bytes().position(|byte| byte < 0x20 && byte != b'\n') {
            return fail(at, "control");
        }
        let Some((before, lines)) = note.rsplit_once("\n\n") else {
            return fail(note.len(), "signatures");
        };
        let (text, _) = note.split_at(before.len() + 1);
        let signatures = signatures(lines).map_err(|malformed| malformed.within(text.len() + 1))?;
        Ok(Note { text, signatures })
    }

    /// This note with further signature lines, those left out that it has already. They are read strictly, but what they
    /// are worth only opening the note tells.
    pub fn with(&self, lines: &str) -> Result<String, Malformed> {
        let mut all = self.signatures.clone();
        for signature in signatures(lines)? {
            if !all.contains(&signature) {
                all.push(signature);
            }
        }
        let lines: String = all.iter().map(Signature::line).collect();
        let note = format!("{}\n{lines}", self.text);
        Note::parse(&note)?;
        Ok(note)
    }
}

impl<'a> Signature<'a> {
    /// The line, its line feed included.
    pub fn line(&self) -> String {
        let bytes = to_base64(&[&self.id[..], &self.bytes].concat());
        format!("{DASH}{} {bytes}\n", self.name)
    }

    /// Reads a line without its line feed.
    pub(crate) fn parse(line: &'a str) -> Option<Signature<'a>> {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = from_base64(bytes)?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        let found = Signature {
            name,
            id: *id,
            bytes: bytes.to_vec(),
        };
        (is_name(name) && !bytes.is_empty()).then_some(found)
    }
}

fn signatures(lines: &str) -> Result<Vec<Signature<'_>>, Malformed> {
    let mut signatures = Vec::new();
    let mut at = 0;
    for line in lines.split_inclusive('\n') {
        let signature = line.strip_suffix('\n').and_then(Signature::parse);
        signatures.push(signature.ok_or(Malformed::new(at, "signature"))?);
        at += line.len();
        if signatures.len() > SIGNATURES_MAX {
            return Err(Malformed::new(at, "signatures"));
        }
    }
    if signatures.is_empty() {
        return Err(Malformed::new(at, "signatures"));
    }
    Ok(signatures)
}

/// Whether this may be the name of a key.
pub(crate) fn is_name(name: &str) -> bool {
    let refused = |c: char| c.is_whitespace() || c == '+';
    !name.is_empty() && !name.contains(refused) && !has_control(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of Go's golang.org/x/mod/sumdb/note.
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_note_of_another_implementation_is_read_and_verified() {
        let note = Note::parse(NOTE).unwrap();
        assert!(note.text.ends_with("problem is.\n"));
        let key = VerifierKey::parse(KEY).unwrap();
        let [signature] = &note.signatures[..] else {
            panic!("one signature")
        };
        assert!(key.is_of(signature));
        assert!(key.verifies(note.text.as_bytes(), &signature.bytes));
        assert!(!key.verifies(note.text.trim_end().as_bytes(), &signature.bytes));
        assert_eq!(key.to_string(), KEY);
        assert_eq!(note.with(&signature.line()).unwrap(), NOTE);
    }

    #[test]
    fn the_text_ends_at_the_last_empty_line() {
        let note = "a\n\nb\n\n— k AAAAAAE=\n";
        assert_eq!(Note::parse(note).unwrap().text, "a\n\nb\n");
        assert_eq!(Note::parse("\n\n— k AAAAAAE=\n").unwrap().text, "\n");
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let what = |note: &str| Note::parse(note).unwrap_err().what;
        for length in 0..NOTE.len() {
            if let Some(cut) = NOTE.get(..length) {
                assert!(Note::parse(cut).is_err(), "{length}");
            }
        }
        for lines in [
            "- k AAAAAAE=",
            "—  k AAAAAAE=",
            "—k AAAAAAE=",
            "— k",
            "— k ",
            "— k AAAAAA==",
            "— k AAAAAAF=",
            "— k AAAAAAE",
            "— k  AAAAAAE=",
            "— k AAAAAAE= ",
            "— k+ AAAAAAE=",
            "— k\u{a0} AAAAAAE=",
            "— \u{7f} AAAAAAE=",
            "—  AAAAAAE=",
            "x",
        ] {
            assert_eq!(what(&format!("a\n\n{lines}\n")), "signature", "{lines}");
        }
        assert_eq!(what("a\n\n— k AAAAAAE="), "signature");
        assert_eq!(what("a\n\n"), "signatures");
        assert_eq!(what("a\n— k AAAAAAE=\n"), "signatures");
        assert_eq!(what("a\r\n\n— k AAAAAAE=\n"), "control");
        assert_eq!(what("a\tb\n\n— k AAAAAAE=\n"), "control");
        let many = |count| format!("a\n\n{}", "— k AAAAAAE=\n".repeat(count));
        assert_eq!(Note::parse(&many(100)).unwrap().signatures.len(), 100);
        assert_eq!(what(&many(101)), "signatures");
        let long = format!("{}\n\n— k AAAAAAE=\n", "a".repeat(NOTE_MAX));
        assert_eq!(what(&long), "length");
    }

    #[test]
    fn lines_are_added_once_and_read_strictly() {
        let (note, more) = (
            "a\n\n— k AAAAAAE=\n",
            "— k AAAAAAE=\n— l AAAAAAI=\n— l AAAAAAI=\n",
        );
        let note = Note::parse(note).unwrap();
        assert_eq!(note.with(more).unwrap(), "a\n\n— k AAAAAAE=\n— l AAAAAAI=\n");
        for bad in ["", "\n— l AAAAAAI=\n", "b\n\n— l AAAAAAI=\n", "— l AAAAAAI="] {
            assert!(note.with(bad).is_err(), "{bad}");
        }
        assert!(note.with(&"— l AAAAAAI=\n".repeat(101)).is_err());
    }
}

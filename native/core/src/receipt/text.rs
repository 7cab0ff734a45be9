//! A receipt's lines. FORMAT.md, "Receipts".
use super::{Promise, Standing, signed_text};
use crate::log::root_over;
use crate::merkle::shape;
use crate::note::Signature;
use crate::suite::{Digest, Suite};
use crate::wire::Malformed;
use crate::wire::lines::Lines;
use crate::wire::text::to_hex;

const HEAD: &str = "event-seal/1 receipt";

/// What a receipt says. None of it is worth anything before it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// What is promised.
    pub promise: Promise,
    /// How many promises were signed together.
    pub count: u32,
    /// Which of them this one is, from 0.
    pub index: u32,
    /// The way from it to the root.
    pub path: Vec<Digest>,
    /// Who signed.
    pub signature: Signature<'a>,
}

impl<'a> Receipt<'a> {
    /// The text.
    pub fn text(&self) -> String {
        let promise = &self.promise;
        let mut out = format!("{HEAD}\n");
        let mut line = |key: &str, value: &str| {
            [key, " ", value, "\n"].iter().for_each(|part| out.push_str(part));
        };
        line("suite", promise.suite.name());
        line("genesis", &to_hex(&promise.genesis));
        line("euid", &to_hex(&promise.euid));
        line("revision", &promise.revision.to_string());
        line("recorded_at", &promise.recorded_at.to_string());
        line("commitment", &to_hex(&promise.commitment));
        line("event", &to_hex(&promise.event));
        line("standing", promise.standing.name());
        line("deadline", &promise.deadline.to_string());
        line("count", &self.count.to_string());
        line("index", &self.index.to_string());
        self.path.iter().for_each(|node| line("path", &to_hex(node)));
        out + "\n" + &self.signature.line()
    }

    /// Reads the text, strictly: writing it again gives the same bytes.
    pub fn parse(text: &'a str) -> Result<Receipt<'a>, Malformed> {
        let mut lines = Lines::new(text);
        lines.exactly(HEAD, "format")?;
        let promise = promise(&mut lines)?;
        let count = lines.number("count")?;
        let at = lines.at();
        let index = lines.number("index")?;
        let siblings = shape::siblings(u64::from(index), u64::from(count));
        let siblings = siblings.ok_or(Malformed::new(at, "index"))?;
        let path = lines.digests("path", siblings.len() as u64)?;
        lines.exactly("", "end")?;
        let signature = lines.line_as("signature", Signature::parse)?;
        if !lines.rest().is_empty() {
            return lines.fail("length");
        }
        Ok(Receipt {
            promise,
            count,
            index,
            path,
            signature,
        })
    }

    /// Reads a file.
    pub fn read(bytes: &'a [u8]) -> Result<Receipt<'a>, Malformed> {
        let text = str::from_utf8(bytes).map_err(|error| Malformed::new(error.valid_up_to(), "utf-8"))?;
        Receipt::parse(text)
    }

    /// The text that must have been signed. None if the path is not as long as index and count ask, which no receipt has
    /// that was read from a text.
    pub(super) fn signed_text(&self) -> Option<String> {
        let (index, count) = (u64::from(self.index), u64::from(self.count));
        let root = root_over(self.promise.leaf_hash(), index, count, &self.path)?;
        Some(signed_text(self.count, &root))
    }
}

fn promise(lines: &mut Lines<'_>) -> Result<Promise, Malformed> {
    let at = lines.at();
    let promise = Promise {
        suite: lines.read("suite", Suite::from_name)?,
        genesis: lines.hex("genesis")?,
        euid: lines.hex("euid")?,
        revision: lines.number("revision")?,
        recorded_at: lines.number("recorded_at")?,
        commitment: lines.hex("commitment")?,
        event: lines.hex("event")?,
        standing: lines.read("standing", Standing::from_name)?,
        deadline: lines.number("deadline")?,
    };
    match promise.check() {
        Ok(()) => Ok(promise),
        Err(malformed) => Err(malformed.within(at)),
    }
}

//! Checking a receipt. FORMAT.md, "Receipts".
use super::text::Receipt;
use crate::checkpoint::Policy;
use crate::note::VerifierKey;
use crate::wire::Malformed;

/// A receipt that holds: the key's holder has promised this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    /// What it says.
    pub receipt: Receipt<'a>,
    /// Who has signed it.
    pub key: &'a VerifierKey,
}

/// Why a receipt is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not a receipt of format 1.
    Malformed(Malformed),
    /// No key of receipts that the policy has is named as the one that signed.
    Unsigned,
    /// The signature is not that of the key that is named, or not of this.
    Signature,
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Refused {
        Refused::Malformed(malformed)
    }
}

/// Verifies a receipt under a policy.
pub fn verify<'a>(bytes: &'a [u8], policy: &'a Policy) -> Result<Held<'a>, Refused> {
    let receipt = Receipt::read(bytes)?;
    let text = receipt.signed_text().ok_or(Refused::Signature)?;
    let signature = &receipt.signature;
    // Name and id are short: every key that has both is tried.
    let mut named = policy
        .receipts()
        .iter()
        .filter(|key| key.is_of(signature))
        .peekable();
    if named.peek().is_none() {
        return Err(Refused::Unsigned);
    }
    let key = named.find(|key| key.verifies(text.as_bytes(), &signature.bytes));
    let key = key.ok_or(Refused::Signature)?;
    Ok(Held { receipt, key })
}

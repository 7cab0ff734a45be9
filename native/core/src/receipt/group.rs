//! The promises of one commit, and a receipt for each. FORMAT.md, "Receipts".
use super::text::Receipt;
use super::{Promise, signed_text};
use crate::log::{Frontier, Plan};
use crate::note::{Purpose, Signature, VerifierKey};
use crate::suite::Digest;

/// Promises that are signed together.
#[derive(Clone, Debug)]
pub struct Group {
    promises: Vec<Promise>,
    /// The hashes of the tree over them.
    stored: Vec<Digest>,
    root: Digest,
}

/// Why a group is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// The key is for something else.
    Purpose,
    /// The signature is not this key's of this group.
    Signature,
}

impl Group {
    /// These promises; none if there are none, or more than a receipt can count.
    pub fn new(promises: Vec<Promise>) -> Option<Group> {
        let (mut frontier, mut stored) = (Frontier::default(), Vec::new());
        for promise in &promises {
            frontier.push(promise.leaf_hash(), &mut stored).ok()?;
        }
        let counted = !promises.is_empty() && u32::try_from(promises.len()).is_ok();
        counted.then_some(Group {
            promises,
            stored,
            root: frontier.root(),
        })
    }

    /// What is promised, in order.
    pub fn promises(&self) -> &[Promise] {
        &self.promises
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        signed_text(self.count(), &self.root)
    }

    /// A receipt for each promise, in order, if this is the key's signature of the text.
    pub fn receipts(&self, key: &VerifierKey, signature: &[u8]) -> Result<Vec<String>, SignError> {
        may_sign(key)?;
        if !key.verifies(self.text().as_bytes(), signature) {
            return Err(SignError::Signature);
        }
        let receipts = (0..self.count()).zip(&self.promises);
        Ok(receipts
            .filter_map(|(index, promise)| Some(self.receipt(index, promise, key, signature)?.text()))
            .collect())
    }

    fn receipt<'a>(
        &self,
        index: u32,
        promise: &Promise,
        key: &'a VerifierKey,
        signature: &[u8],
    ) -> Option<Receipt<'a>> {
        let read = |at: u64| self.stored.get(at as usize).copied().ok_or(());
        let plan = Plan::inclusion(u64::from(index), u64::from(self.count()))?;
        Some(Receipt {
            promise: promise.clone(),
            count: self.count(),
            index,
            path: plan.path(read).ok()?,
            signature: Signature {
                name: key.name(),
                id: key.id(),
                bytes: signature.to_vec(),
            },
        })
    }

    fn count(&self) -> u32 {
        self.promises.len() as u32
    }
}

/// Whether a key may sign receipts.
pub fn may_sign(key: &VerifierKey) -> Result<(), SignError> {
    if key.purpose() == Purpose::Receipts {
        Ok(())
    } else {
        Err(SignError::Purpose)
    }
}

//! Which keys are trusted, and what a checkpoint must bear to be believed. FORMAT.md, "Checkpoints".
use super::{Checkpoint, TIME_MAX, cosigned};
use crate::note::{Note, Purpose, Signature, VerifierKey};
use crate::wire::Malformed;

/// The keys of logs, those of witnesses, how many witnesses must have signed, and the keys of receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<VerifierKey>,
    receipts: Vec<VerifierKey>,
    quorum: usize,
}

/// Why keys make no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// No key of a log; or no key at all, where receipts alone are to be verified.
    Logs,
    /// A key among those of another purpose.
    Purpose,
    /// One public key stands there twice, under whatever name and purpose.
    Shared,
    /// More witnesses must have signed than there are.
    Quorum,
}

/// A checkpoint that bears what the policy asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What it says.
    pub checkpoint: Checkpoint<'a>,
    /// The log's key.
    pub log: &'a VerifierKey,
    /// One for each witness of the policy that signed, in the policy's order.
    pub cosignatures: Vec<Cosignature<'a>>,
}

/// A witness's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature<'a> {
    /// The witness's key.
    pub witness: &'a VerifierKey,
    /// When it signed, by its own clock, in seconds since the UNIX epoch.
    pub time: u64,
}

/// Why a checkpoint is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not a checkpoint.
    Malformed(Malformed),
    /// It is of a log for which the policy has no key.
    Origin,
    /// No key of this log has signed it.
    Unsigned,
    /// A line with name and id of a trusted key is not that key's signature of this text.
    Signature,
    /// Too few witnesses have signed.
    Quorum {
        /// How many must have.
        need: usize,
        /// How many have.
        have: usize,
    },
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Refused {
        Refused::Malformed(malformed)
    }
}

impl Policy {
    /// A checkpoint is to be signed by one of the logs' keys whose name is its origin, and by so many of the witnesses.
    /// Several keys of one log are those that it had in the course of time.
    pub fn new(
        logs: Vec<VerifierKey>,
        witnesses: Vec<VerifierKey>,
        quorum: usize,
    ) -> Result<Policy, PolicyError> {
        if logs.is_empty() {
            return Err(PolicyError::Logs);
        }
        let receipts = Vec::new();
        Policy {
            logs,
            witnesses,
            receipts,
            quorum,
        }
        .checked()
    }

    /// Of receipts alone: no checkpoint is believed.
    pub fn of_receipts(receipts: Vec<VerifierKey>) -> Result<Policy, PolicyError> {
        if receipts.is_empty() {
            return Err(PolicyError::Logs);
        }
        Policy {
            logs: Vec::new(),
            witnesses: Vec::new(),
            receipts,
            quorum: 0,
        }
        .checked()
    }

    /// The same, and a receipt is to be signed by one of these.
    pub fn with_receipts(self, receipts: Vec<VerifierKey>) -> Result<Policy, PolicyError> {
        Policy { receipts, ..self }.checked()
    }

    /// The keys of receipts.
    pub fn receipts(&self) -> &[VerifierKey] {
        &self.receipts
    }

    fn checked(self) -> Result<Policy, PolicyError> {
        let is_for = |keys: &[VerifierKey], purpose| keys.iter().all(|key| key.purpose() == purpose);
        if !is_for(&self.logs, Purpose::Log)
            || !is_for(&self.witnesses, Purpose::Witness)
            || !is_for(&self.receipts, Purpose::Receipts)
        {
            return Err(PolicyError::Purpose);
        }
        if self.quorum > self.witnesses.len() {
            return Err(PolicyError::Quorum);
        }
        let keys = self.logs.iter().chain(&self.witnesses).chain(&self.receipts);
        let mut publics: Vec<&[u8; 32]> = keys.map(VerifierKey::public).collect();
        let count = publics.len();
        publics.sort_unstable();
        publics.dedup();
        if publics.len() < count {
            return Err(PolicyError::Shared);
        }
        Ok(self)
    }

    /// Reads a checkpoint and verifies what it bears. Lines of keys that the policy does not know are left aside.
    pub fn open<'a>(&'a self, note: &'a str) -> Result<Opened<'a>, Refused> {
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(note.text)?;
        let is_origin = |key: &VerifierKey| key.purpose() == Purpose::Log && key.name() == checkpoint.origin;
        if !self.logs.iter().any(is_origin) {
            return Err(Refused::Origin);
        }
        let keys: Vec<&VerifierKey> = self.logs.iter().chain(&self.witnesses).collect();
        let signed = signed(&keys, &note)?;
        let log = signed.iter().find(|(key, _)| is_origin(key));
        let (log, _) = log.ok_or(Refused::Unsigned)?;
        let cosignatures = self.cosignatures(&signed);
        if cosignatures.len() < self.quorum {
            return Err(Refused::Quorum {
                need: self.quorum,
                have: cosignatures.len(),
            });
        }
        Ok(Opened {
            checkpoint,
            log,
            cosignatures,
        })
    }

    /// The latest signature of each witness.
    fn cosignatures<'a>(&'a self, signed: &[(&'a VerifierKey, u64)]) -> Vec<Cosignature<'a>> {
        let latest = |witness: &'a VerifierKey| {
            let own = signed.iter().filter(|(key, _)| *key == witness);
            let time = own.map(|(_, time)| *time).max()?;
            Some(Cosignature { witness, time })
        };
        self.witnesses.iter().filter_map(latest).collect()
    }
}

/// The keys that signed the note's text, each with its time (0 of a log's key). Keys that share name and id are all
/// tried, so that none can hide another.
fn signed<'a>(keys: &[&'a VerifierKey], note: &Note<'_>) -> Result<Vec<(&'a VerifierKey, u64)>, Refused> {
    let mut signed = Vec::new();
    for line in &note.signatures {
        let mut claimed = keys.iter().filter(|key| key.is_of(line)).peekable();
        if claimed.peek().is_some() {
            let key_and_time = |key: &&'a VerifierKey| Some((*key, time_signed(key, note.text, line)?));
            signed.push(claimed.find_map(key_and_time).ok_or(Refused::Signature)?);
        }
    }
    Ok(signed)
}

/// The time of this key's signature of the text, if it is one.
fn time_signed(key: &VerifierKey, text: &str, line: &Signature<'_>) -> Option<u64> {
    match key.purpose() {
        Purpose::Log => key.verifies(text.as_bytes(), &line.bytes).then_some(0),
        Purpose::Witness => {
            let (time, signature) = line.bytes.split_first_chunk()?;
            let time = u64::from_be_bytes(*time);
            let holds = time <= TIME_MAX && key.verifies(&cosigned(text, time), signature);
            holds.then_some(time)
        }
        Purpose::Receipts => None,
    }
}

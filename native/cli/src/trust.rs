//! Whose signatures are believed, and what is said of them.

use event_seal_core::checkpoint::{self, Policy, PolicyError};
use event_seal_core::note::{KeyError, Purpose, VerifierKey};
use event_seal_core::proof::Refused;
use event_seal_core::receipt;
use serde::Serialize;
use std::io;

#[derive(clap::Args)]
pub struct Keys {
    /// A log's verifier key, `name+id+key`, or that of its receipts; the file must be signed by it. Several: those that the
    /// log had in turn
    #[arg(long = "key", value_name = "KEY", value_parser = key)]
    keys: Vec<VerifierKey>,
    /// A witness's verifier key; it must have cosigned
    #[arg(long = "witness", value_name = "KEY", value_parser = key, requires = "keys")]
    witnesses: Vec<VerifierKey>,
    /// So many of the witnesses are enough; all must have cosigned unless given
    #[arg(long, value_name = "N", requires = "witnesses")]
    quorum: Option<usize>,
}

impl Keys {
    /// Whom to believe, if any key was given.
    pub fn policy(&self) -> io::Result<Option<Policy>> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let policy = self.of_keys().map(Some);
        policy.map_err(|error| io::Error::other(policy_error(error)))
    }

    fn of_keys(&self) -> Result<Policy, PolicyError> {
        let is_of_receipts = |key: &VerifierKey| key.purpose() == Purpose::Receipts;
        let (receipts, logs): (Vec<_>, Vec<_>) = self.keys.iter().cloned().partition(is_of_receipts);
        if logs.is_empty() && self.witnesses.is_empty() {
            return Policy::of_receipts(receipts);
        }
        let quorum = self.quorum.unwrap_or(self.witnesses.len());
        Policy::new(logs, self.witnesses.clone(), quorum)?.with_receipts(receipts)
    }
}

fn policy_error(error: PolicyError) -> &'static str {
    match error {
        PolicyError::Logs => "no --key of a log was given",
        PolicyError::Purpose => "--key must be a key of a log or of receipts, --witness a witness's",
        PolicyError::Shared => "one public key was given twice",
        PolicyError::Quorum => "--quorum asks for more witnesses than were given",
    }
}

fn key(text: &str) -> Result<VerifierKey, &'static str> {
    VerifierKey::parse(text).map_err(key_error)
}

fn key_error(error: KeyError) -> &'static str {
    match error {
        KeyError::Format => "not of the form name+id+key",
        KeyError::Name => "its name is none",
        KeyError::Type => "of a type that is not used here",
        KeyError::Id => "its id is not that of the key",
        KeyError::Point => "no Ed25519 key that may be trusted",
    }
}

/// What was signed, and by whom.
#[derive(Clone, Serialize)]
pub struct Signed {
    pub origin: String,
    pub size: u64,
    /// The leaf, or promise, that is proven; none if it is the log itself that is signed.
    pub index: Option<u64>,
    /// The last position that is proven; none of a log or a receipt.
    pub through: Option<u64>,
    /// The names that the signatures claim, where no key was given to check them.
    pub names: Vec<String>,
    /// The log's key whose signature holds.
    pub key: Option<String>,
    /// The witnesses' keys whose signatures hold, and when each signed, in seconds since the UNIX epoch.
    pub witnesses: Vec<(String, u64)>,
}

/// Why a proof does not hold.
pub fn refusal(refused: &Refused) -> String {
    match refused {
        Refused::Malformed(malformed) => format!("no proof: {} at byte {}", malformed.what, malformed.at),
        Refused::Rule(rule) => format!("no sealed block is so: {rule}"),
        Refused::Checkpoint(why) => checkpoint_refusal(why),
        Refused::LogPath => "the log has no such place".to_owned(),
        Refused::Root => "it is not what was logged".to_owned(),
    }
}

/// Why a receipt is worth nothing.
pub fn receipt_refusal(refused: &receipt::Refused) -> String {
    match refused {
        receipt::Refused::Malformed(malformed) => {
            format!("no receipt: {} at byte {}", malformed.what, malformed.at)
        }
        receipt::Refused::Unsigned => "no key that was given has signed it".to_owned(),
        receipt::Refused::Signature => "its signature is wrong: it is not what was promised".to_owned(),
    }
}

/// Why a checkpoint is not believed.
pub fn checkpoint_refusal(why: &checkpoint::Refused) -> String {
    use checkpoint::Refused::{Malformed, Origin, Quorum, Signature, Unsigned};
    match why {
        Malformed(malformed) => format!("no checkpoint: {} at byte {}", malformed.what, malformed.at),
        Origin => "its checkpoint is of another log than the key".to_owned(),
        Unsigned => "no key that was given has signed its checkpoint".to_owned(),
        Signature => "a signature of its checkpoint is wrong".to_owned(),
        Quorum { need, have } => format!("{need} witnesses must have cosigned its checkpoint, {have} have"),
    }
}

//! `event-seal kept`.

use crate::Status;
use crate::opened::Opened;
use crate::screen::{Colour, coloured, plain};
use crate::trust::{Keys, receipt_refusal, refusal};
use event_seal_core::checkpoint::Policy;
use event_seal_core::proof::{self, Proven};
use event_seal_core::receipt::{self, Outcome};
use event_seal_core::verify::ReadAt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    keys: Keys,
    /// A receipt of an event
    receipt: PathBuf,
    /// A proof of the same event
    proof: PathBuf,
}

pub fn run(options: &Options, out: &mut impl Write) -> io::Result<Status> {
    let policy = options.keys.policy()?;
    let policy =
        policy.ok_or_else(|| io::Error::other("kept needs a --key of the receipt and one of the log"))?;
    let (receipt, proof) = (read(&options.receipt)?, read(&options.proof)?);
    let (text, colour, status) = match kept(&policy, &receipt, &proof) {
        Ok(text) => (text, Colour::Good, Status::Verified),
        Err(text) => (text, Colour::Bad, Status::Not),
    };
    writeln!(out, "{}", coloured(&plain(&text), colour))?;
    Ok(status)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let named = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("{} could not be read: {error}", path.display()))
    };
    let file = Opened::open(path).map_err(|error| named(&error))?;
    let mut buffer = Vec::new();
    let read = file.read_at(0..file.length(), &mut buffer).map(<[u8]>::to_vec);
    read.map_err(|_| named(&file.failure().map_or(String::new(), io::Error::to_string)))
}

fn kept(policy: &Policy, receipt: &[u8], proof: &[u8]) -> Result<String, String> {
    let held = receipt::verify(receipt, policy)
        .map_err(|refused| format!("NOT SHOWN: RECEIPT: {}.", receipt_refusal(&refused)))?;
    let proven = proof::verify(proof, policy)
        .map_err(|refused| format!("NOT SHOWN: PROOF: {}.", refusal(&refused)))?;
    let stands = stands(&proven);
    match receipt::kept(&held.receipt.promise, &proven) {
        Some(Outcome::Kept) => Ok(format!("Kept: {stands}, as it was promised.")),
        Some(Outcome::Amended) => Ok(format!(
            "Kept: {stands}, as it was amended after the receipt was given, which that left open."
        )),
        Some(Outcome::Broken("retracted")) => {
            Err(format!("BROKEN: {stands}, and was promised to be retracted."))
        }
        Some(Outcome::Broken(field)) => Err(format!(
            "BROKEN: {stands}, but not as it was promised: another {field}."
        )),
        None => Err("NOT SHOWN: the proof is of another event than the receipt.".to_owned()),
    }
}

fn stands(proven: &Proven<'_>) -> String {
    let proof = &proven.proof;
    format!(
        "the event stands at position {} of {}",
        proof.n, proof.genesis.flow
    )
}

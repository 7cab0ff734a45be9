//! Checking a proof. FORMAT.md, "Event proof".
use super::{Content, Digests, Proof};
use crate::checkpoint::{self, Opened, Policy};
use crate::wire::Malformed;

/// A proof that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven<'a> {
    /// What it says, and whether it shows the body.
    pub proof: Proof<'a>,
    /// What was recomputed.
    pub digests: Digests,
    /// The checkpoint that it leads to.
    pub opened: Opened<'a>,
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not a proof of format 1.
    Malformed(Malformed),
    /// It breaks a rule of the format that no sealed block breaks: the rule's fault class.
    Rule(&'static str),
    /// Its checkpoint is not believed.
    Checkpoint(checkpoint::Refused),
    /// The log of the checkpoint has no such index, or the path there has another length.
    LogPath,
    /// What it shows does not lead to the checkpoint's root: it is not what was logged.
    Root,
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Refused {
        Refused::Malformed(malformed)
    }
}

/// Verifies a proof under a policy.
pub fn verify<'a>(bytes: &'a [u8], policy: &'a Policy) -> Result<Proven<'a>, Refused> {
    let text = str::from_utf8(bytes).map_err(|error| Malformed::new(error.valid_up_to(), "utf-8"))?;
    let proof = Proof::parse(text)?;
    broken(&proof).map_or(Ok(()), |rule| Err(Refused::Rule(rule)))?;
    let opened = policy
        .open(proof.logged.checkpoint)
        .map_err(Refused::Checkpoint)?;
    let digests = proof.digests().ok_or(Refused::Rule("seam"))?;
    if stands_elsewhere(&proof, &digests) {
        return Err(Refused::Rule("seam"));
    }
    let root = proof
        .log_root(&digests, opened.checkpoint.size)
        .ok_or(Refused::LogPath)?;
    if root != opened.checkpoint.root {
        return Err(Refused::Root);
    }
    Ok(Proven {
        proof,
        digests,
        opened,
    })
}

/// The rule that event and header break together, if any.
fn broken(proof: &Proof<'_>) -> Option<&'static str> {
    let (event, header) = (&proof.event, &proof.header);
    let is_last = header.closes && proof.n == header.last();
    let rules = [
        ("height", (header.height == 0) == (header.first == 1)),
        ("late", !(event.late && proof.n == 1)),
        ("sealed_at", event.recorded_at <= header.sealed_at),
        (
            "when_range",
            (header.when_min..=header.when_max).contains(&event.when),
        ),
        ("close", event.closes() == is_last),
        ("close", !header.closes || header.count >= 3 || header.first == 1),
    ];
    rules.iter().find(|(_, holds)| !holds).map(|(rule, _)| *rule)
}

/// G stands for what does not exist, and nowhere else.
fn stands_elsewhere(proof: &Proof<'_>, digests: &Digests) -> bool {
    let previous = (proof.header.height > 0).then_some(&proof.header.previous);
    let commitment = match &proof.content {
        Content::NotShown(commitment) => Some(commitment),
        Content::Shown { .. } => None,
    };
    let neighbours = proof.ids_before.iter().chain(&proof.hashes_after);
    let mut given = neighbours.chain(&proof.path).chain(previous).chain(commitment);
    given.any(|digest| *digest == digests.genesis)
}

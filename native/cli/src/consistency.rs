//! `event-seal consistency`.

use crate::Status;
use crate::screen::{Colour, coloured, plain};
use crate::trust::{Keys, checkpoint_refusal};
use event_seal_core::checkpoint::{Checkpoint, Policy, Request};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    keys: Keys,
    /// A checkpoint that was kept
    old: PathBuf,
    /// The request for a witness: a later checkpoint, and the way to it from the size of the old one
    new: PathBuf,
}

/// More than any checkpoint or request is long.
const LONGEST: u64 = 2 << 20;

pub fn run(options: &Options, out: &mut impl Write) -> io::Result<Status> {
    let policy = options.keys.policy()?;
    let policy = policy.ok_or_else(|| io::Error::other("consistency needs a --key"))?;
    let (old, new) = (read(&options.old)?, read(&options.new)?);
    let (text, colour, status) = match extends(&policy, &old, &new) {
        Ok(text) => (text, Colour::Good, Status::Verified),
        Err(why) => (format!("NOT CONSISTENT: {why}."), Colour::Bad, Status::Not),
    };
    writeln!(out, "{}", coloured(&plain(&text), colour))?;
    Ok(status)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let named = |error: io::Error| io::Error::other(format!("{} could not be read: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(named)?;
    file.take(LONGEST).read_to_end(&mut bytes).map_err(named)?;
    Ok(bytes)
}

fn extends(policy: &Policy, old: &[u8], new: &[u8]) -> Result<String, String> {
    let old = std::str::from_utf8(old).map_err(|_| "OLD is no checkpoint")?;
    let request =
        Request::parse(new).map_err(|malformed| format!("NEW is no request: {}", malformed.what))?;
    let old = opened(policy, old, "OLD")?;
    let new = opened(policy, request.checkpoint, "NEW")?;
    if old.origin != new.origin {
        return Err("they are of two logs".to_owned());
    }
    if request.old != old.size {
        return Err(format!(
            "NEW shows the way from size {}, OLD has {}",
            request.old, old.size
        ));
    }
    match request.extends(&old.root) {
        Ok(true) => Ok(format!(
            "Consistent: {} had {} leaves and has {}, and those are the first of these.",
            old.origin, old.size, new.size
        )),
        _ => Err("NEW does not extend OLD: the log was changed".to_owned()),
    }
}

fn opened<'a>(policy: &'a Policy, note: &'a str, which: &str) -> Result<Checkpoint<'a>, String> {
    let opened = policy.open(note);
    let opened = opened.map_err(|why| format!("{which}: {}", checkpoint_refusal(&why)))?;
    Ok(opened.checkpoint)
}

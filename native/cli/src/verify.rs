//! `event-seal verify`.

use crate::kinds::{Checked, Kind, Signature, recognise};
use crate::opened::Opened;
use crate::trust::Keys;
use crate::{Status, json, report, screen, thread_count, threads};
use event_seal_core::checkpoint::Policy;
use event_seal_core::verify::ReadAt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Options {
    /// Works on so many threads; as many as there are cores unless given
    #[arg(long, value_name = "N", value_parser = thread_count())]
    threads: Option<usize>,
    /// Reports as one JSON object
    #[arg(long)]
    json: bool,
    /// Reports nothing of files that verify
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    keys: Keys,
    /// Interchange files, archives, logs, proofs of events, receipts, or files of packed containers
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What came of one file.
pub struct Report<'a> {
    pub path: &'a Path,
    pub outcome: Outcome,
    /// A key was given: what it has not signed is not verified.
    pub key: bool,
    pub took: Duration,
}

pub enum Outcome {
    Checked(&'static Kind, Box<Checked>),
    /// It is no file that is known.
    Unknown(String),
    /// It could not be read, or not to its end; then what was found is of a part only.
    Unreadable(String),
}

impl Report<'_> {
    pub fn status(&self) -> Status {
        match &self.outcome {
            Outcome::Checked(kind, checked)
                if checked.verdict.fault_count == 0
                    && checked.is_something()
                    && self.is_signed_enough(kind, checked.signature) =>
            {
                Status::Verified
            }
            Outcome::Checked(..) | Outcome::Unknown(_) => Status::Not,
            Outcome::Unreadable(_) => Status::CouldNot,
        }
    }

    fn is_signed_enough(&self, kind: &Kind, signature: Signature) -> bool {
        match signature {
            Signature::Valid => true,
            Signature::Refused => false,
            Signature::None | Signature::NotChecked => !self.key && !kind.needs_key,
        }
    }
}

pub fn run(options: &Options, out: &mut impl Write) -> io::Result<Status> {
    threads(options.threads)?;
    let policy = options.keys.policy()?;
    let (mut statuses, mut reports) = (Vec::new(), Vec::new());
    for path in &options.files {
        let report = one(path, policy.as_ref());
        statuses.push(report.status());
        if options.json {
            reports.push(json::file(&report));
        } else if !options.quiet || report.status() != Status::Verified {
            report::file(&report, out)?;
            out.flush()?;
        }
    }
    let status = statuses.iter().copied().max().unwrap_or(Status::Verified);
    if options.json {
        json::write(&json::Files::of(status, reports), out)?;
    } else if statuses.len() > 1 && !options.quiet {
        report::end(&statuses, out)?;
    }
    Ok(status)
}

fn one<'a>(path: &'a Path, policy: Option<&Policy>) -> Report<'a> {
    let started = Instant::now();
    let outcome = outcome(path, policy).unwrap_or_else(|error| Outcome::Unreadable(error.to_string()));
    Report {
        path,
        outcome,
        key: policy.is_some(),
        took: started.elapsed(),
    }
}

fn outcome(path: &Path, policy: Option<&Policy>) -> io::Result<Outcome> {
    let file = Opened::open(path)?;
    let kind = match recognise(&file)? {
        Ok(kind) => kind,
        Err(why) => return Ok(Outcome::Unknown(why)),
    };
    let (working, work) = mpsc::channel::<()>();
    let checked = thread::scope(|scope| {
        let file = &file;
        scope.spawn(move || screen::progress(file, file.length() * kind.passes, &work));
        let checked = (kind.verify)(file, policy);
        drop(working);
        checked
    });
    Ok(match file.failure() {
        Some(failure) => Outcome::Unreadable(failure.to_string()),
        None => Outcome::Checked(kind, Box::new(checked)),
    })
}

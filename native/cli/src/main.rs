//! `event-seal`: checks what EventSeal wrote, on a machine that has no BEAM and no store.

mod bench;
mod consistency;
mod json;
mod kept;
mod kinds;
mod opened;
mod report;
mod screen;
mod show;
mod trust;
mod verify;

use clap::{Parser, Subcommand};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// glibc's gives memory back to the system after each group of containers, and asks for it again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Checks files of event flows that were sealed by EventSeal.
///
/// Exit status 0: all verified; 1: something is not, or is no such file; 2: could not run, or a file could not be read.
#[derive(Parser)]
#[command(name = "event-seal", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Recomputes every value in the files and says what does not hold, where
    Verify(verify::Options),
    /// Prints what a file says, without verifying any of it
    Show {
        /// Prints the bodies too
        #[arg(long)]
        bodies: bool,
        file: PathBuf,
    },
    /// Says whether a log's later checkpoint extends one that was kept, both signed
    Consistency(consistency::Options),
    /// Says whether what a receipt promises was kept, by a proof of the same event, both signed
    Kept(kept::Options),
    /// Measures how fast this machine hashes and verifies
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let status = match Arguments::parse().command {
        Command::Verify(options) => verify::run(&options, &mut out),
        Command::Show { bodies, file } => show::run(&file, bodies, &mut out),
        Command::Consistency(options) => consistency::run(&options, &mut out),
        Command::Kept(options) => kept::run(&options, &mut out),
        Command::Bench(options) => bench::run(&options, &mut out),
    };
    match status.and_then(|status| out.flush().map(|()| status)) {
        Ok(status) => status.into(),
        Err(error) => {
            // Whoever closed the pipe wants to hear no more.
            if error.kind() != ErrorKind::BrokenPipe {
                eprintln!("event-seal: {error}");
            }
            Status::CouldNot.into()
        }
    }
}

/// How a run ends; of several files the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Verified = 0,
    Not = 1,
    CouldNot = 2,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// The threads that all of it runs on; as many as there are cores unless it is said otherwise.
fn threads(threads: Option<usize>) -> io::Result<usize> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    builder.build_global().map_err(io::Error::other)?;
    Ok(rayon::current_num_threads())
}

/// So many threads can be asked for.
fn thread_count() -> impl clap::builder::TypedValueParser<Value = usize> {
    clap::builder::TypedValueParser::map(clap::value_parser!(u16).range(1..=1024), usize::from)
}

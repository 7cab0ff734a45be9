//! The BEAM's way into `event_seal_core`: decode, call, encode. No logic lives here.

mod archive;
mod chain;
mod hash;
mod interchange;
mod kept;
mod ledger;
mod list;
mod lock;
mod log;
mod proof;
mod receipt;
mod terms;
mod verify;
mod watch;

/// glibc's gives memory back to the system after each group of containers, and asks for it again: a fifth of all time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

rustler::init!("Elixir.EventSeal.Native");

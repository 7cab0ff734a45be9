//! The BEAM's way into `event_seal_core`: decode, call, encode. No logic lives here.

mod chain;
mod hash;
mod interchange;
mod list;
mod lock;
mod terms;
mod verify;

rustler::init!("Elixir.EventSeal.Native");

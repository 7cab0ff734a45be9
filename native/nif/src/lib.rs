//! The BEAM's way into `event_seal_core`: decode, call, encode. No logic lives here.

mod lock;

rustler::init!("Elixir.EventSeal.Native");

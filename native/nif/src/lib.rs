//! The BEAM's way into `event_seal_core`: decode, call, encode. No logic lives here.

/// The format's name, as the interchange form writes it.
#[rustler::nif]
fn format() -> &'static str {
    "event-seal/1"
}

rustler::init!("Elixir.EventSeal.Native");

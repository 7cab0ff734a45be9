//! Flows as JSON Lines, for whoever has no store of ours (FORMAT.md, "Interchange").

mod encode;
pub(crate) mod line;
pub(crate) mod scalar;

pub use encode::{checkpoint_line, header_line, lines};

/// What the first line calls the format.
const FORMAT: &str = "event-seal/1";

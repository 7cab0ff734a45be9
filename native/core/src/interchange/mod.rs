//! Flows as JSON Lines, for whoever has no store of ours (FORMAT.md, "Interchange").

mod encode;
pub(crate) mod line;
mod lines;
mod reading;
mod record;
pub(crate) mod scalar;
mod stretch;
#[cfg(test)]
mod tests;
mod verify;

pub use encode::{checkpoint_line, header_line, lines};
pub use reading::Reading;
pub use verify::verify_file;

/// What the first line calls the format.
const FORMAT: &str = "event-seal/1";

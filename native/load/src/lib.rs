//! What `event_seal_core` is measured with, by its benchmarks and by `event-seal bench`: flows to verify, and the same
//! hashing over bytes that lie ready.

mod flow;
mod hashing;

pub use flow::{BLOCK, Flow};
pub use hashing::{Each, Inputs, lanes};

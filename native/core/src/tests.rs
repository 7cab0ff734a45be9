//! Tests of the whole: vectors, tampering, and properties over both.
mod archive;
mod checkpoint;
mod clinic;
mod kept;
mod lanes;
mod ledger;
pub mod log;
pub mod proof;
mod properties;
mod runs;
mod settling;
mod tampering;
mod vectors;
mod verification;

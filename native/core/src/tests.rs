//! Tests of the whole: vectors, tampering, and properties over both.
mod archive;
mod checkpoint;
mod clinic;
mod kept;
mod lanes;
mod ledger;
pub mod log;
mod log_file;
pub mod proof;
mod properties;
mod receipt;
mod runs;
mod settling;
mod tampering;
mod vectors;
mod verification;

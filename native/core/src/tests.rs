//! Tests of the whole: vectors, tampering, and properties over both.
mod clinic;
mod lanes;
mod log;
mod properties;
mod settling;
mod tampering;
mod vectors;
mod verification;

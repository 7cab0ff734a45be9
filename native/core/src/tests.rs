//! Tests of the whole: vectors, tampering, and properties over both.
mod clinic;
mod properties;
mod tampering;
mod vectors;
mod verification;

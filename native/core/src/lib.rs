//! Format 1 of EventSeal: hashing, sealing and verifying chains of events.
//!
//! Pure functions over bytes: no I/O, no clock, no randomness, no panic. FORMAT.md at the project's root defines every
//! byte. The way of an event: [`event::Event::encode`], [`chain::settle`], [`block::seal`].
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod archive;
pub mod block;
pub mod chain;
pub mod checkpoint;
pub mod digest;
pub mod event;
pub mod genesis;
pub mod import;
pub mod interchange;
pub mod kept;
pub mod lanes;
pub mod link;
pub mod log;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod receipt;
#[cfg(test)]
mod reference;
pub mod suite;
#[cfg(test)]
mod tests;
pub mod verify;
mod wire;

pub use wire::{LIMIT, Malformed, has_control};

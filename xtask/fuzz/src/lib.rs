//! Fuzz targets of the decoders and of ingestion, and a small fuzzer that needs nothing but stable
//! Rust.
//!
//! A [`Target`] takes any bytes and panics where a rule is broken: that nothing panics, and also
//! that what is accepted survives a round trip, that a second opinion agrees on what is JSON, that
//! nothing unsigned is taken, and so on. A [`Fuzzer`] makes inputs for it from well-formed ones,
//! with knowledge of JSON and of the protocol's words, and keeps those that show something new.
//! Its cases follow from a seed alone.
//!
//! ```
//! use std::time::Duration;
//!
//! let target = downbeat_fuzz::find("canonical").expect("a target of that name");
//! let mut fuzzer = downbeat_fuzz::Fuzzer::new(target, 1, Duration::MAX);
//! for _ in 0..100 {
//!     let input = fuzzer.next_input();
//!     if let Err(failure) = fuzzer.judge(&input) {
//!         panic!("{failure:?} by {input:?}");
//!     }
//! }
//! assert_eq!(fuzzer.cases(), 100);
//! ```
//!
//! `cargo xtask fuzz` runs the program of this crate, each target in a process of its own.

pub mod memory;

mod dictionary;
mod features;
mod mutate;
mod people;
mod rng;
mod runner;
mod seeds;
mod targets;

pub use features::Features;
pub use mutate::MAX_INPUT_LEN;
pub use rng::Rng;
pub use runner::{Failure, Fuzzer, SLOW, minimise, quiet_panics, try_input};
pub use targets::{TARGETS, Target, find};

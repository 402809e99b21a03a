//! Fuzz targets for the decoders, for ingestion and for the whole machine, and a small fuzzer for
//! stable Rust.
//!
//! A [`Target`] takes any bytes, and panics if the code under test panics or breaks a rule.
//! Examples of rules: accepted input survives a round trip, a model agrees on which texts are JSON,
//! and no unsigned transaction is accepted. A [`Fuzzer`] mutates well-formed inputs with knowledge
//! of JSON and of the protocol's words, and keeps inputs with new features. The seed determines all
//! cases.
//!
//! ```
//! use std::time::Duration;
//!
//! let target = downbeat_fuzz::find("canonical").expect("there is a target with this name");
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
//! `cargo xtask fuzz` runs the program of this crate, with a separate process for each target.

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

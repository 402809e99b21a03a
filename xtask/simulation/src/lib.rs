//! A simulation of nodes, their clients and a bad network, the same each time for the same seed.
//!
//! The nodes are the sync machine ([`downbeat_sync::Machine`]) with everything that the runtime
//! has around it, but without threads, sockets and clocks: time is a number, chance comes from the
//! seed, and storage is in memory. A seed decides on the shape of the network, on what clients do,
//! and on what goes wrong: links break, messages are late, nodes lose their memory, storage fails,
//! clients read nothing for a time, and some peers lie. At each step the rules are checked that the
//! design promises; in the end all is healed, and everybody has to have the same.
//!
//! ```
//! let outcome = downbeat_simulation::run(1);
//! assert_eq!(outcome.broken, None);
//! ```
//!
//! `cargo xtask simulate` runs the program of this crate.

mod client;
mod content;
mod liar;
mod link;
mod log;
mod lookup;
mod node;
mod people;
mod rng;
mod runner;
mod scenario;
mod truth;
mod turn;
mod world;

pub use runner::{Outcome, Summary, replay, run, run_all, run_with_fault};

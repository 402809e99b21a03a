//! A simulation of nodes, their clients and a bad network, the same each time for the same seed.
//!
//! A node is the sync machine ([`downbeat_sync::Machine`]) and the code that carries its actions
//! out (`downbeat_driver`), both as servers run them. Threads, sockets and clocks are left out:
//! time is a number, chance comes from the seed, and storage is in memory. A seed decides on the
//! shape of the network, on what clients do, and on what goes wrong: links break, messages are
//! late, nodes lose their memory, storage fails, clients read nothing for a time, and some peers
//! lie. Each step checks the rules that the design promises. In the end all faults are healed, and
//! all nodes and clients have to agree.
//!
//! ```
//! let outcome = downbeat_simulation::run(1);
//! assert_eq!(outcome.broken, None);
//! ```
//!
//! `cargo xtask simulate` runs the program of this crate.

mod client;
mod liar;
mod link;
mod log;
mod node;
mod people;
mod rng;
mod runner;
mod scenario;
mod signatures;
mod truth;
mod world;

pub use runner::{Outcome, Summary, replay, run, run_all, run_with_driver_bug, run_with_fault};

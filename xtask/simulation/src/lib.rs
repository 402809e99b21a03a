//! A deterministic simulation of nodes, their clients and an unreliable network.
//!
//! A node is the sync machine ([`downbeat_sync::Machine`]) and the driver that carries out its
//! actions (`downbeat_driver`): the same code as in servers. There are no threads, sockets or
//! clocks: time is a number, random numbers come from the seed, and storage is in memory. The seed
//! determines the topology of the network, the acts of the clients, and the faults: links break,
//! messages are delayed, nodes restart and lose data, storage fails, clients stop reading for a
//! time, and some peers lie. Every step checks the rules of the design. At the end the faults stop,
//! and all nodes and clients must agree.
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

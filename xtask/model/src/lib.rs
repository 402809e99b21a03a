//! A model check of the sync machine.
//!
//! Two clients, one server and one CoValue: a [`Scope`] says how much the clients write, how often
//! connections are lost and the server restarts, and [`check`] goes through every order in which
//! all of that can happen. The server is the real [`downbeat_sync::Machine`]; the clients do what
//! the reference client does; the runtime between them is played as the contract of
//! [`downbeat_sync::Action`] has it, each completion coming at any time that it allows.
//!
//! In every state these rules hold:
//!
//! - nothing is acknowledged that is not durable;
//! - what a client was told to be durable stays so;
//! - nothing is stored that was not verified, and no store leaves a gap;
//! - a peer has one turn at a time, and a session one job with the verifier;
//! - messages do not go in circles;
//! - when nothing is under way and both clients are connected, they and the disk have the same,
//!   and everything that was written is acknowledged.
//!
//! Time stands still: what waits for a time is for the simulation. So are several CoValues, and
//! with them dependencies.
//!
//! ```
//! use downbeat_model::{Scope, check};
//!
//! let looked = check(Scope { writes: [1, 0], ..Scope::default() })?;
//! println!("{} states, none with a broken rule", looked.states);
//! # Ok::<(), String>(())
//! ```

mod cast;
mod check;
mod client;
mod digest;
mod model;
mod rules;
mod server;

pub use check::{Looked, check};
pub use model::{Moment, Scope, Step};

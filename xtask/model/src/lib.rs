//! A model check of the sync machine.
//!
//! The model has two clients, one server and one CoValue. A [`Scope`] limits the writes of the
//! clients, the lost connections and the restarts of the server, and [`check`] explores every order
//! of these events. The server is the real [`downbeat_sync::Machine`]. The clients behave like the
//! reference client. The runtime between them is modelled by the contract of
//! [`downbeat_sync::Action`]: each completion comes at any time that the contract allows.
//!
//! In every state these rules hold:
//!
//! - only durable content is acknowledged;
//! - an acknowledgement is never taken back;
//! - only verified content is stored, and no store leaves a gap;
//! - a peer has one turn at a time, and a session one verification;
//! - the clients and the server do not exchange messages endlessly;
//! - when no work is in progress and both clients are connected, the clients and the disk have the
//!   same content, and all written content is acknowledged.
//!
//! Time does not advance, and there is only one CoValue. The simulation covers timeouts, several
//! CoValues and dependencies.
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

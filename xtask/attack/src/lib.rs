//! Attacks the real server over real sockets, as strangers would, with an honest client beside
//! them: `cargo xtask attack`.
//!
//! For each attack a fresh server starts with default settings and a store in a temporary
//! directory. The honest client writes every 20 ms and loads a CoValue every 100 ms. It measures
//! first an undisturbed phase, then the attack and the five seconds after it. The attack passes if
//! the honest client kept all its content, its connection and its speed, and if the server's
//! memory, disk use, log and time to stop stayed within their bounds (`verdict`).
//!
//! - `attacks` is the catalogue. Each attack is a function over a `Ground`, which gives it
//!   connections and the moments of its phases.
//! - `trial` runs one attack. `server`, `honest` and `usage` are its parts.
//! - `socket` is a WebSocket client that sends any bytes, whole or in parts.

mod arguments;
mod attacks;
mod author;
mod ground;
mod honest;
mod latency;
mod link;
mod report;
mod server;
mod socket;
mod trial;
mod usage;
mod verdict;
mod wire;

pub use arguments::{Arguments, run};

//! Connections between real sockets, with well-behaved peers and others.

mod bad_input;
mod conformance;
#[cfg(unix)]
mod examples;
mod handshake;
mod liveness;
mod raw;
mod receive_budget;
mod tls;

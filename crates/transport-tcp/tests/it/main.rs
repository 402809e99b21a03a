//! Connections between real sockets, with well-behaved peers and others.

mod bad_input;
mod conformance;
mod handshake;
mod liveness;
mod raw;
mod tls;

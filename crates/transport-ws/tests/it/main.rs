//! The WebSocket transport: against the rules of transports, and against peers that keep none.

mod admission;
mod bad_input;
mod batching;
mod closing;
mod conformance;
mod examples;
mod http;
mod liveness;
mod neighbours;
mod raw;
mod receive_budget;
mod storm;
mod tls;

//! Tests of the backends in this crate.

mod append_log;
mod faults;
mod memory;

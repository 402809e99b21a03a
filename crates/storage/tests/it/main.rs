//! Tests of the storage contract's own backends.

mod faults;
mod memory;

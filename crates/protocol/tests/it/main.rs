//! Integration tests, with vectors recorded from the reference and with random input.

mod arbitrary;
mod bad_input;
mod binary;
mod canonical;
mod costs;
mod frames;
mod header;
mod round_trip;
mod transaction;
mod unknown_ids;
mod vectors;

//! The crate from outside: against vectors recorded from the reference, and with random input.

mod arbitrary;

mod round_trip;
mod vectors;

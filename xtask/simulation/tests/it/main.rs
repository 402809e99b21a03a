//! The simulation as a test: that no seed breaks a rule, and that faults do.

mod faults;
mod seeds;

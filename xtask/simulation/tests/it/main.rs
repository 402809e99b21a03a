//! The simulation as a test: no seed breaks a rule, and injected bugs are found.

mod driver_bugs;
mod faults;
mod seeds;

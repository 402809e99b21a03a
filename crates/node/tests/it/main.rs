//! The runtime's tests: real machines, verifiers, storages and transports.

mod access;
mod chain;
mod costs;
mod credit;
mod deletion;
mod failing;
mod fairness;
mod forging;
mod fork;
mod given;
mod held_back;
mod large;
mod limits;
mod local;
mod operating;
mod restart;
mod shutdown;
mod slow;
mod stats;
mod sync;

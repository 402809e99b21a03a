//! Integration tests, mostly with content recorded from the reference.

mod co_value;
mod costs;
mod damaged;
mod dependencies;
mod given;
mod recorded;
mod roles;
mod vectors;

//! Tests of the store through its public interface, and of its file through SQLite.

mod contract;
mod damage;
mod durability;
mod migration;
mod opening;
#[cfg(unix)]
mod place;
mod reference;
mod sharing;

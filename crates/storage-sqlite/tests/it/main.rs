//! Tests of the store through its public interface, and of its file through SQLite.

mod contract;
mod damage;
mod durability;
mod migration;
#[cfg(unix)]
mod moving;
mod opening;
mod reference;
mod sharing;

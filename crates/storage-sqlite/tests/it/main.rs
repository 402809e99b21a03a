//! Tests of the store through its public interface, and of its file through SQLite.

mod contract;
mod damage;
mod durability;
mod migration;
mod opening;
mod reference;
mod sharing;

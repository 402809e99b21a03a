//! Tests of the sled store.

mod compact;
mod contract;
mod damage;
mod durability;
#[cfg(unix)]
mod moving;
mod opening;
mod salvage;

//! Tests of the store on sled.

mod contract;
mod damage;
mod durability;
mod opening;
#[cfg(unix)]
mod place;

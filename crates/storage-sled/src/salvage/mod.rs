//! Reads a damaged store without sled and without changing it.

mod catalogue;
mod encoding;
mod reading;
mod repair;
mod scan;
mod store;

pub use store::SledSalvage;

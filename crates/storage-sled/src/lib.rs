//! The embedded default storage of Downbeat, on sled.

mod cache;
mod draft;
mod erase;
mod keys;
mod mark;
mod options;
mod parts;
mod place;
mod queue;
mod read;
mod record;
mod shared;
mod store;
mod tree;
mod writer;

pub use options::{Durability, SledOptions};
pub use store::SledStorage;

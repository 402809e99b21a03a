//! The machine's side of the protocol, as conversations.

mod authors;
mod world;

mod content;
mod deletion;
mod dependencies;
mod eviction;
mod load;
mod peers;
mod reconcile;
mod rejected;
mod work;

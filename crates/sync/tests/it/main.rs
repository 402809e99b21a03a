//! The machine's side of the protocol, as conversations.

mod authors;
mod machines;
mod world;

mod content;
mod costs;
mod deletion;
mod dependencies;
mod eviction;
mod load;
mod loss;
mod many_sessions;
mod memory;
mod peers;
mod portions;
mod reconcile;
mod refused;
mod rejected;
mod unwanted;
mod upstream;
mod upstream_bounds;
mod upstream_content;
mod upstream_orders;
mod upstream_reconcile;
mod upstream_rings;
mod upstream_storms;
mod upstream_streams;
mod upstream_unsynced;
mod work;

//! The handlers: a file for each event, and for each kind of message in `Received`.

mod connection;
mod content;
mod known;
mod listed;
mod load;
mod loaded;
mod reconcile;
mod refused;
mod stored;
mod tick;
mod turn_done;
mod unsynced;
mod verified;

//! The sync machine of the Jazz protocol: events in, actions out, with no I/O, no clock and no async.

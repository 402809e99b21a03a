//! The runtime of Downbeat: the sync machine composed with a storage and transports.

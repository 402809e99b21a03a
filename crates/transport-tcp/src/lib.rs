//! Length-delimited bincode frames over TCP, between Downbeat nodes and Rust programs.

//! Storage for Downbeat in the file format of the reference sync server.

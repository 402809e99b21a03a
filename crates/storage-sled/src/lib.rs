//! The embedded default storage of Downbeat, on sled.

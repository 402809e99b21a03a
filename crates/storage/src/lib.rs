//! The storage contract of Downbeat, an in-memory backend and a conformance suite for backends.

//! Hashes, identifiers from headers, hash chains and Ed25519 signatures of the Jazz sync protocol.

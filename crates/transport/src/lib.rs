//! Transport traits, framing and an in-process pair for the Jazz sync protocol.

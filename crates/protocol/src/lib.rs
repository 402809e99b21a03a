//! Messages, identifiers, headers and transactions of the Jazz sync protocol, with their JSON and bincode codecs.

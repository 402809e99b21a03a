//! The reasons why a peer is disconnected for the memory that it takes.

/// Why a peer has to be disconnected: the memory that is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overuse {
    /// The peer keeps more than [`crate::Config::bytes_per_peer`].
    #[error("the connection keeps {bytes} bytes of memory, more than one may")]
    Peer {
        /// What it keeps.
        bytes: u64,
    },
    /// All clients together keep more than [`crate::Config::peer_bytes`], and this one keeps most.
    #[error("memory is short, and the connection keeps most of it: {bytes} bytes")]
    AllClients {
        /// What it keeps.
        bytes: u64,
    },
}

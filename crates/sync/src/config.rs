//! The machine's configuration.

use crate::event::Millis;

/// Limits on memory and waiting times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// CoValues in memory (headers and counts). Beyond that, the least recently used ones without
    /// work in progress are forgotten, and loaded from storage when they are needed.
    pub warm_co_values: usize,
    /// Bytes of CoValues in memory: headers with their meta, counts and dependencies, as they are.
    /// Beyond that, CoValues are forgotten in the same way.
    pub warm_bytes: u64,
    /// Hash chains in memory, [`CHAIN_BYTES`](crate::cost::CHAIN_BYTES) each. Without a session's
    /// chain, the verifier has to read the session's log before its next transaction.
    pub warm_chains: usize,
    /// Subscriptions per peer.
    pub subscriptions_per_peer: usize,
    /// Bytes of memory per client: subscriptions, claims, held content and reconcile batches, with
    /// the figures of [`crate::cost`]. A client that keeps more is disconnected. An edge server
    /// with 1,000,000 subscriptions keeps half of the default, and up to all of it while their
    /// CoValues are looked up. An upstream is disconnected if its claims alone take more.
    pub bytes_per_peer: u64,
    /// The same of all clients together. Beyond that, the client that keeps most is disconnected,
    /// so that clients with little are never hit.
    pub peer_bytes: u64,
    /// Bytes of content per peer that may wait for dependencies.
    pub held_bytes_per_peer: u64,
    /// Dependencies per peer that its held content may wait for at the same time, or keeps in
    /// memory meanwhile. A group may have 100,000 members.
    pub dependencies_per_peer: usize,
    /// How long content waits for a dependency (reference: a peer that does not answer a LOAD
    /// within 60 s counts as not having the CoValue).
    pub hold_time: Millis,
    /// How long an upstream may take to answer a LOAD (reference: 60 s).
    pub load_time: Millis,
    /// LOADs to one upstream that may be in flight. LOADs for dependencies may exceed this,
    /// because content in flight may be waiting for them (reference: 1,000).
    pub loads_per_upstream: usize,
    /// The number of upstreams that each CoValue is synced with.
    pub upstreams_per_co_value: usize,
    /// Whether every CoValue in storage is compared with each upstream when it connects.
    pub full_storage_reconciliation: bool,
    /// Time until a failed look-up in storage is repeated.
    pub storage_retry: Millis,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            warm_co_values: 500_000,
            warm_bytes: 1 << 30,
            warm_chains: 20_000,
            subscriptions_per_peer: 1_000_000,
            bytes_per_peer: 512 << 20,
            peer_bytes: 1 << 30,
            held_bytes_per_peer: 32 << 20,
            dependencies_per_peer: 250_000,
            hold_time: 60_000,
            load_time: 60_000,
            loads_per_upstream: 1_000,
            upstreams_per_co_value: usize::MAX,
            full_storage_reconciliation: false,
            storage_retry: 1_000,
        }
    }
}

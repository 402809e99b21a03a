//! The machine's bounds.

use crate::event::Millis;

/// Bounds on what the machine keeps and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// CoValues kept warm (their header and counts in memory). Beyond that, the least recently
    /// used ones that nothing is going on with are forgotten, and come back from storage.
    pub warm_co_values: usize,
    /// Hash chains kept, 2 KiB each. Without one, the next transaction of a session costs reading
    /// the session's log.
    pub warm_chains: usize,
    /// CoValues that one peer may be subscribed to.
    pub subscriptions_per_peer: usize,
    /// Bytes of transactions from one peer that may wait for dependencies.
    pub held_bytes_per_peer: u64,
    /// How long content waits for a dependency (reference: a peer that does not answer a load
    /// within 60 s counts as not having it).
    pub hold_time: Millis,
    /// How long an upstream may take to answer a LOAD (reference: 60 s).
    pub load_time: Millis,
    /// LOADs that may be under way to one upstream. Those for dependencies are sent beyond that,
    /// because what is under way may be waiting for them (reference: 1,000).
    pub loads_per_upstream: usize,
    /// How many of the upstreams each CoValue is synced with.
    pub upstreams_per_co_value: usize,
    /// Whether every CoValue in storage is compared with each upstream when it connects.
    pub full_storage_reconciliation: bool,
    /// How long to wait before asking a storage again that could not answer.
    pub storage_retry: Millis,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            warm_co_values: 500_000,
            warm_chains: 20_000,
            subscriptions_per_peer: 1_000_000,
            held_bytes_per_peer: 16 << 20,
            hold_time: 60_000,
            load_time: 60_000,
            loads_per_upstream: 1_000,
            upstreams_per_co_value: usize::MAX,
            full_storage_reconciliation: false,
            storage_retry: 1_000,
        }
    }
}

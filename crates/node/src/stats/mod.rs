//! The numbers that a node counts, as plain values that a program can export.

mod counters;
mod histogram;
mod rejections;
mod top;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use downbeat_protocol::{CoValueId, UpstreamName};
use downbeat_sync::MemoryUse;

pub(crate) use self::counters::{Counters, add, micros};
pub use self::histogram::Histogram;
pub use self::rejections::Refused;
pub use self::top::Traffic;

/// Defines a struct of numbers, and the cells in which they are counted.
macro_rules! counted {
    (
        $(#[$doc:meta])* $name:ident, $cells:ident { $($(#[$field_doc:meta])* $field:ident,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        #[derive(Default)]
        pub(crate) struct $cells {
            $(pub $field: AtomicU64,)*
        }

        impl $cells {
            pub(super) fn snapshot(&self) -> $name {
                $name { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }

        impl $name {
            /// The numbers by their names, for exporters.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

/// Counters since the start of a node, and its present state; from
/// [`Node::stats`](crate::Node::stats).
///
/// Counts only grow. Numbers that can shrink say "at the moment".
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections at the moment, by role.
    pub peers: PeerStats,
    /// Ended connections, by role and cause.
    pub disconnects: DisconnectStats,
    /// Messages from peers, by action.
    pub received: MessageStats,
    /// Messages to peers, by action.
    pub sent: MessageStats,
    /// Bytes in both directions.
    pub traffic: TrafficStats,
    /// Rejections, by reason.
    pub rejections: RejectionStats,
    /// How often each of the [`NodeLimits`](crate::NodeLimits) was reached.
    pub limits: LimitStats,
    /// How often peers had to wait for the node itself.
    pub back_pressure: BackPressureStats,
    /// Contents of memory at the moment.
    pub memory: MemoryStats,
    /// Writes to storage, and failures.
    pub storage: StorageStats,
    /// Contents of storage at the moment; `None` if storage failed.
    pub stored: Option<downbeat_storage::StoreStats>,
    /// Seconds that the verification of a run of transactions took, with the wait for a free
    /// thread.
    pub verification: Histogram,
    /// Seconds that storage took to make one batch durable, with failed attempts.
    pub append: Histogram,
    /// Stores in one batch, which share one flush.
    pub batch_size: Histogram,
    /// Seconds from the time when a run of transactions was ready for verification until it was
    /// durable and acknowledged.
    pub acknowledgement: Histogram,
    /// Every upstream, connected or not, in the order of the names.
    pub upstreams: Vec<UpstreamStats>,
    /// The CoValues with the most traffic since the start, most first; 20 at most.
    pub top: Vec<Traffic>,
    /// The last rejections, latest first; 100 at most.
    pub refused: Vec<Refused>,
    /// Every access key that has come with a connection, in the order of the names.
    pub keys: Vec<KeyStats>,
    /// The accounts whose content is counted (with [`Access::Accounts`](crate::Access::Accounts)),
    /// in the order of the ids.
    pub accounts: Vec<AccountStats>,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamStats {
    /// Its name.
    pub name: UpstreamName,
    /// Whether there is a connection at the moment.
    pub connected: bool,
    /// Since when it has been connected, or not connected.
    pub since: SystemTime,
    /// CoValues that it has not acknowledged in full. At most 10,000 are counted for all upstreams
    /// together.
    pub unsynced: u64,
}

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStats {
    /// Its name.
    pub label: Arc<str>,
    /// Connections with it at the moment.
    pub connections: u64,
    /// Bytes of headers and transactions that were stored for it, including deleted ones.
    pub stored_bytes: u64,
}

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountStats {
    /// The account.
    pub account: CoValueId,
    /// Bytes of headers and transactions that were stored of it, including deleted ones.
    pub stored_bytes: u64,
}

/// Connections by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PeerStats {
    /// Peers that have connected to us.
    pub clients: u64,
    /// Upstream servers that we are connected to.
    pub upstreams: u64,
    /// CoValues that the program itself has open.
    pub local: u64,
}

/// What is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes that the index of CoValues and peers takes, by kind.
    pub machine: MemoryUse,
    /// CoValues whose header and counts are in memory.
    pub warm_co_values: u64,
    /// Bytes for transactions that are kept for readers or not stored yet, with what they cost
    /// beside their own.
    pub content_bytes: u64,
    /// Bytes of received content that is not stored yet, beyond the own credit of each peer.
    pub pooled_credit_bytes: u64,
    /// Bytes that are being written to clients, beyond small writes.
    pub output_bytes: u64,
    /// Runs that wait for their signatures to be checked.
    pub unverified_jobs: u64,
    /// Stores that wait for the batch before them.
    pub unstored_jobs: u64,
}

counted! {
    /// Connections that have ended, by the cause.
    EndStats, EndCells {
        /// The peer has closed the connection in order.
        peer_closed,
        /// The link broke, or the peer went away without a word.
        broken,
        /// Nothing came from the peer for too long, or its system did not answer.
        silent,
        /// The peer did not finish a frame that it had begun.
        too_slow,
        /// The peer broke the rules of the transport.
        broke_rules,
        /// This node has closed it: over a limit, or no longer allowed.
        closed,
        /// This node shuts down.
        shut_down,
    }
}

/// Connections that have ended, by what the peer was. Those of the program itself are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DisconnectStats {
    /// Peers that had connected to us.
    pub clients: EndStats,
    /// Upstream servers that we were connected to.
    pub upstreams: EndStats,
}

#[derive(Default)]
pub(crate) struct DisconnectCells {
    pub clients: EndCells,
    pub upstreams: EndCells,
}

impl DisconnectCells {
    fn snapshot(&self) -> DisconnectStats {
        DisconnectStats { clients: self.clients.snapshot(), upstreams: self.upstreams.snapshot() }
    }
}

counted! {
    /// Messages by action.
    MessageStats, MessageCells {
        /// Subscriptions.
        load,
        /// Acknowledgements, corrections, and word of what is missing.
        known,
        /// Content.
        content,
        /// Not said to anyone.
        done,
        /// Comparisons of many CoValues.
        reconcile,
        /// Answers to those.
        reconcile_ack,
    }
}

counted! {
    /// Bytes in both directions. What goes from place to place in one process counts as content
    /// and not as frames.
    TrafficStats, TrafficCells {
        /// Bytes of transactions that peers have sent.
        content_received,
        /// Bytes of transactions that peers were sent.
        content_sent,
        /// Bytes of frames as they came.
        frames_received,
        /// Bytes of frames as they were handed to the transport.
        frames_sent,
    }
}

counted! {
    /// Rejections, by reason.
    RejectionStats, RejectionCells {
        /// A signature that does not match the log: a forgery, or a broken client.
        bad_signature,
        /// A history of a session other than the one that is there, signed by the author: a client
        /// that lost the end of its log.
        forked,
        /// A header that is not that of the id.
        header_mismatch,
        /// A session of a CoValue that is no account.
        not_an_account,
        /// A session whose owner has no valid key.
        invalid_signer,
        /// A session that could not be decoded.
        malformed,
        /// A deletion whose author may not delete.
        invalid_delete,
        /// Content that could not be checked, because what is stored is damaged.
        unreadable,
        /// Content that has waited for a dependency for too long.
        missing_dependency,
        /// Content beyond what one peer may have waiting for dependencies.
        held_too_much,
        /// Content of a CoValue for which the peer has sent bad content before.
        errored,
        /// Subscriptions beyond what one peer may have.
        too_many_subscriptions,
        /// Frames, or messages in them, that could not be decoded.
        undecodable,
        /// Content of an account that may not store content here.
        not_allowed,
        /// A CoValue that no account which may store content here has to do with.
        not_wanted,
        /// Content beyond what an account or an access key may have stored.
        over_quota,
    }
}

counted! {
    /// Limits that bit.
    LimitStats, LimitCells {
        /// Frames that were held back because their connection sends too much.
        connection_rate,
        /// Microseconds that they were held back.
        connection_rate_micros,
        /// Frames that were held back because the connections of their address send too much.
        address_rate,
        /// Microseconds that they were held back.
        address_rate_micros,
        /// Frames that were held back because the connections of their access key send too much.
        key_rate,
        /// Microseconds that they were held back.
        key_rate_micros,
        /// Connections that were closed because they were held back for too long.
        closed_for_rate,
        /// Connections that were closed because they had as many subscriptions as they may.
        closed_for_subscriptions,
        /// Connections that were closed because they sent too much that only a broken or a hostile
        /// client sends.
        closed_for_strikes,
        /// Connections that were closed because they took nothing while others waited.
        closed_for_reading,
        /// Connections that were closed because they kept too much memory.
        closed_for_memory,
        /// Sessions that were refused because their access key has stored as much as it may.
        key_quota,
        /// Sessions that were refused because their account has stored as much as it may.
        account_quota,
    }
}

counted! {
    /// Waiting for the node itself.
    BackPressureStats, BackPressureCells {
        /// Messages that waited until what their peer had sent before was stored.
        credit_waits,
        /// Microseconds that they waited.
        credit_wait_micros,
        /// Messages that waited until content of all peers together was stored.
        pool_waits,
        /// Microseconds that they waited.
        pool_wait_micros,
        /// Writes to clients that waited until others had been written.
        output_waits,
        /// Microseconds that they waited.
        output_wait_micros,
    }
}

counted! {
    /// The work of the storage.
    StorageStats, StorageCells {
        /// Batches that were made durable, each with one flush at most.
        batches,
        /// Stores in them.
        stores,
        /// Bytes of transactions in them.
        bytes,
        /// Batches and notes that failed and were tried again.
        write_retries,
        /// Look-ups and reads that failed and were put off.
        read_retries,
        /// Transactions that were erased after their CoValues were deleted.
        erased_transactions,
        /// Bytes of those.
        erased_bytes,
    }
}

//! What a node counts: plain numbers, to be asked for and to be exported by whoever wants to.

use std::sync::atomic::{AtomicU64, Ordering};

use downbeat_protocol::Message;
use downbeat_sync::{Rejection, content_bytes};

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
            fn snapshot(&self) -> $name {
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

/// What a node has done since it was started, and how it is now; from
/// [`Node::stats`](crate::Node::stats).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections at the moment, by what the peer is to us.
    pub peers: PeerStats,
    /// Messages from peers, by action.
    pub received: MessageStats,
    /// Messages to peers, by action.
    pub sent: MessageStats,
    /// Bytes in both directions.
    pub traffic: TrafficStats,
    /// What was refused, by the reason. Each is also one line of the log.
    pub rejections: RejectionStats,
    /// What is in memory at the moment.
    pub memory: MemoryStats,
    /// What was written to storage, and how often it failed.
    pub storage: StorageStats,
    /// How many batches had how many stores: up to 1, up to 2, up to 4, and so on; those with more
    /// than 4,096 do not exist.
    pub batch_sizes: [u64; BATCH_BUCKETS],
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
    /// CoValues whose header and counts are in memory.
    pub warm_co_values: u64,
    /// Bytes of content that waits for dependencies.
    pub held_bytes: u64,
    /// Bytes for transactions that are kept for readers or not stored yet, with what they cost
    /// beside their own.
    pub content_bytes: u64,
    /// Runs that wait for their signatures to be checked.
    pub unverified_jobs: u64,
    /// Stores that wait for the batch before them.
    pub unstored_jobs: u64,
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
        /// Said by nobody.
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
    /// What was refused, by the reason.
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
        /// A deletion by somebody who may not delete.
        invalid_delete,
        /// Content that could not be checked, because what is stored is damaged.
        unreadable,
        /// Content that has waited for a dependency for too long.
        missing_dependency,
        /// Content beyond what one peer may have waiting for dependencies.
        held_too_much,
        /// Content of a CoValue of which the peer has sent bad content before.
        errored,
        /// Subscriptions beyond what one peer may have.
        too_many_subscriptions,
        /// Frames, or messages in them, that could not be decoded.
        undecodable,
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
    }
}

/// For batches of up to 2^0, 2^1, …, 2^12 = 4,096 stores.
const BATCH_BUCKETS: usize = 13;

/// Everything that is counted where it happens.
#[derive(Default)]
pub(crate) struct Counters {
    pub received: MessageCells,
    pub sent: MessageCells,
    pub traffic: TrafficCells,
    pub rejections: RejectionCells,
    pub storage: StorageCells,
    batch_sizes: [AtomicU64; BATCH_BUCKETS],
}

impl Counters {
    /// A peer has sent a message.
    pub(crate) fn received(&self, message: &Message) {
        self.received.count(message);
        add(&self.traffic.content_received, bytes_of(message));
    }

    /// A peer has been sent messages, in so many bytes.
    pub(crate) fn sent(&self, messages: &[Message], bytes: usize) {
        add(&self.traffic.frames_sent, bytes as u64);
        for message in messages {
            self.sent.count(message);
            add(&self.traffic.content_sent, bytes_of(message));
        }
    }

    /// Something was refused.
    pub(crate) fn rejected(&self, rejection: &Rejection) {
        let cells = &self.rejections;
        let cell = match rejection {
            Rejection::BadSignature { .. } => &cells.bad_signature,
            Rejection::Forked { .. } => &cells.forked,
            Rejection::HeaderMismatch { .. } => &cells.header_mismatch,
            Rejection::NotAnAccount => &cells.not_an_account,
            Rejection::InvalidSigner => &cells.invalid_signer,
            Rejection::Malformed(_) => &cells.malformed,
            Rejection::InvalidDelete(_) => &cells.invalid_delete,
            Rejection::Unreadable => &cells.unreadable,
            Rejection::MissingDependency(_) => &cells.missing_dependency,
            Rejection::HeldTooMuch => &cells.held_too_much,
            Rejection::Errored => &cells.errored,
            Rejection::TooManySubscriptions => &cells.too_many_subscriptions,
        };
        add(cell, 1);
    }

    /// A batch has become durable.
    pub(crate) fn stored(&self, stores: usize, bytes: u64) {
        add(&self.storage.batches, 1);
        add(&self.storage.stores, stores as u64);
        add(&self.storage.bytes, bytes);
        let bucket = stores.next_power_of_two().trailing_zeros() as usize;
        add(&self.batch_sizes[bucket.min(BATCH_BUCKETS - 1)], 1);
    }

    /// What has been counted; the rest is the engine's to fill in.
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            peers: PeerStats::default(),
            received: self.received.snapshot(),
            sent: self.sent.snapshot(),
            traffic: self.traffic.snapshot(),
            rejections: self.rejections.snapshot(),
            memory: MemoryStats::default(),
            storage: self.storage.snapshot(),
            batch_sizes: self.batch_sizes.each_ref().map(|cell| cell.load(Ordering::Relaxed)),
        }
    }
}

impl MessageCells {
    fn count(&self, message: &Message) {
        let cell = match message {
            Message::Load(_) => &self.load,
            Message::Known(_) => &self.known,
            Message::Content(_) => &self.content,
            Message::Done(_) => &self.done,
            Message::Reconcile(_) => &self.reconcile,
            Message::ReconcileAck(_) => &self.reconcile_ack,
        };
        add(cell, 1);
    }
}

/// Counts. The numbers are independent of each other, so their order does not matter.
pub(crate) fn add(cell: &AtomicU64, count: u64) {
    cell.fetch_add(count, Ordering::Relaxed);
}

fn bytes_of(message: &Message) -> u64 {
    match message {
        Message::Content(content) => content.sessions.iter().map(content_bytes).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_by_the_power_of_two_that_they_stay_below() {
        let counters = Counters::default();
        for stores in [1, 2, 3, 4, 5, 4_096] {
            counters.stored(stores, 10);
        }
        let stats = counters.snapshot();
        assert_eq!(stats.batch_sizes[..4], [1, 1, 2, 1]);
        assert_eq!(stats.batch_sizes[BATCH_BUCKETS - 1], 1);
        assert_eq!((stats.storage.batches, stats.storage.bytes), (6, 60));
    }

    #[test]
    fn an_exporter_learns_the_names() {
        let names: Vec<_> = StorageStats::default().iter().map(|(name, _)| name).collect();
        assert_eq!(names[..2], ["batches", "stores"]);
    }
}

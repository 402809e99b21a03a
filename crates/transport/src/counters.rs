//! Counters of a transport, for operators.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::admission::RefusalKind;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of a transport. Its listener, its connections and the code that shows them
        /// share one instance; several listeners can share it too.
        #[derive(Debug, Default)]
        pub struct TransportCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// The values of [`TransportCounters`], read one after the other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct TransportSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl TransportCounters {
            /// The current values.
            pub fn snapshot(&self) -> TransportSnapshot {
                TransportSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Accepted connections whose handshake was complete.
    accepted,
    /// Accepted connections that exist now (a gauge).
    open,
    /// Pending handshakes (a gauge).
    pending,
    /// Plain HTTP requests that were answered.
    http_requests,
    /// Refused: the limit on all connections was reached.
    refused_full,
    /// Refused: the limit on connections from one address was reached.
    refused_address,
    /// Refused: no file descriptors were left.
    refused_no_files,
    /// Refused by [`Admission`](crate::Admission): [`RefusalKind::Unauthorized`].
    refused_unauthorized,
    /// Refused by [`Admission`](crate::Admission): [`RefusalKind::Forbidden`].
    refused_forbidden,
    /// Refused by [`Admission`](crate::Admission): [`RefusalKind::TooMany`].
    refused_too_many,
    /// Refused by [`Admission`](crate::Admission): [`RefusalKind::Unavailable`].
    refused_unavailable,
    /// Handshakes that exceeded their time limit.
    handshakes_timed_out,
    /// Old handshakes that were dropped because too many were pending.
    handshakes_displaced,
    /// Handshakes that broke the rules: not HTTP, an upgrade with errors, not a hello.
    handshakes_malformed,
    /// Handshakes with a head over the size limit.
    handshakes_too_large,
    /// Handshakes during which the peer disconnected.
    handshakes_broken_off,
    /// TLS handshakes that failed.
    tls_failed,
    /// Frames over the size limit; each ended its connection.
    frames_too_large,
    /// Text frames that were not UTF-8; each ended its connection.
    frames_not_utf8,
    /// Binary frames where only text carries messages; dropped.
    frames_binary,
    /// Frames that broke the rules of the framing, compressed ones among them; each ended its
    /// connection.
    frames_malformed,
    /// Messages in too many short fragments; each ended its connection.
    frames_fragmented,
    /// Frames that arrived too slowly; each ended its connection.
    frames_too_slow,
    /// Incomplete messages that were given up, because others waited for their memory; each ended
    /// its connection.
    frames_displaced,
    /// Connections that ended in the middle of a frame.
    frames_cut_off,
    /// WebSocket pings that were answered.
    pings,
    /// Connections ended because the peer had stopped to acknowledge or to send.
    peers_lost,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts one, for gauges.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TransportCounters {
    /// Counts a refusal by [`Admission`](crate::Admission).
    pub fn refused(&self, kind: RefusalKind) {
        match kind {
            RefusalKind::Unauthorized => self.refused_unauthorized.increment(),
            RefusalKind::Forbidden => self.refused_forbidden.increment(),
            RefusalKind::TooMany => self.refused_too_many.increment(),
            RefusalKind::Unavailable => self.refused_unavailable.increment(),
        }
    }
}

impl TransportSnapshot {
    /// Refusals by reason, for a metric with a label.
    pub fn refusals(&self) -> [(&'static str, u64); 7] {
        [
            ("full", self.refused_full),
            ("address", self.refused_address),
            ("no_files", self.refused_no_files),
            ("unauthorized", self.refused_unauthorized),
            ("forbidden", self.refused_forbidden),
            ("too_many", self.refused_too_many),
            ("unavailable", self.refused_unavailable),
        ]
    }

    /// Failed handshakes by reason, for a metric with a label.
    pub fn failed_handshakes(&self) -> [(&'static str, u64); 6] {
        [
            ("timed_out", self.handshakes_timed_out),
            ("displaced", self.handshakes_displaced),
            ("malformed", self.handshakes_malformed),
            ("too_large", self.handshakes_too_large),
            ("broken_off", self.handshakes_broken_off),
            ("tls", self.tls_failed),
        ]
    }

    /// Rejected frames by reason, for a metric with a label.
    pub fn bad_frames(&self) -> [(&'static str, u64); 8] {
        [
            ("too_large", self.frames_too_large),
            ("not_utf8", self.frames_not_utf8),
            ("binary", self.frames_binary),
            ("malformed", self.frames_malformed),
            ("fragmented", self.frames_fragmented),
            ("too_slow", self.frames_too_slow),
            ("displaced", self.frames_displaced),
            ("cut_off", self.frames_cut_off),
        ]
    }
}

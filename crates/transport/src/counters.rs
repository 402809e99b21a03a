//! What a transport has seen, for whoever operates it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::admission::RefusalKind;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of what happened on a transport; shared between its listener, its connections and
        /// whoever shows them.
        #[derive(Debug, Default)]
        pub struct TransportCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// [`TransportCounters`] at one moment. The values are read one after the other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct TransportSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl TransportCounters {
            /// The values now.
            pub fn snapshot(&self) -> TransportSnapshot {
                TransportSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Connections that peers made and whose handshake was complete.
    accepted,
    /// Connections that peers made and that exist now (goes down as well).
    open,
    /// Handshakes that are under way (goes down as well).
    pending,
    /// Plain HTTP requests that were answered.
    http_requests,
    /// Refused: as many connections in all as are allowed.
    refused_full,
    /// Refused: as many connections from this address as are allowed.
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
    /// Handshakes that were not done in time.
    handshakes_timed_out,
    /// Handshakes that were given up, as the oldest, because too many were under way.
    handshakes_displaced,
    /// Handshakes that broke the rules: no HTTP, no upgrade that can be answered, no hello.
    handshakes_malformed,
    /// Handshakes whose head was larger than allowed.
    handshakes_too_large,
    /// Handshakes that the peer broke off.
    handshakes_broken_off,
    /// TLS handshakes that failed.
    tls_failed,
    /// Frames over the size limit; each ended its connection.
    frames_too_large,
    /// Text frames that are not UTF-8; each ended its connection.
    frames_not_utf8,
    /// Binary frames where only text carries messages; dropped.
    frames_binary,
    /// Frames against the rules of the framing (compressed ones among them); each ended its
    /// connection.
    frames_malformed,
    /// Messages cut into too many short fragments; each ended its connection.
    frames_fragmented,
    /// Frames that came too slowly; each ended its connection.
    frames_too_slow,
    /// Connections that ended in the middle of a frame.
    frames_cut_off,
    /// Pings of the transport's own that were answered.
    pings,
    /// Connections given up because the peer neither acknowledged nor sent anything any more.
    peers_lost,
}

/// A count.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less, for those that count what exists.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The count now.
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
    /// What was refused, by reason, for a metric with a label.
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

    /// Handshakes that failed, by reason, for a metric with a label.
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

    /// Frames that were not taken, by reason, for a metric with a label.
    pub fn bad_frames(&self) -> [(&'static str, u64); 7] {
        [
            ("too_large", self.frames_too_large),
            ("not_utf8", self.frames_not_utf8),
            ("binary", self.frames_binary),
            ("malformed", self.frames_malformed),
            ("fragmented", self.frames_fragmented),
            ("too_slow", self.frames_too_slow),
            ("cut_off", self.frames_cut_off),
        ]
    }
}

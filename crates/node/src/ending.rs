//! Why connections end.

use std::fmt;
use std::io;

use downbeat_transport::TransportError;

use crate::link::Kind;
use crate::stats::{DisconnectCells, EndCells, add};

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The peer has closed it in order.
    PeerClosed,
    /// The link broke.
    Broken,
    /// Nothing came from the peer for too long, or its system did not answer.
    Silent,
    /// The peer did not finish a frame, or took nothing.
    TooSlow,
    /// The peer broke the transport's rules.
    BrokeRules,
    /// This node has closed it.
    Closed,
    /// This node shuts down.
    ShutDown,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Broken => "broken",
            Self::Silent => "silent",
            Self::TooSlow => "too_slow",
            Self::BrokeRules => "broke_rules",
            Self::Closed => "closed",
            Self::ShutDown => "shut_down",
        }
    }
}

impl From<&TransportError> for Cause {
    fn from(error: &TransportError) -> Self {
        match error {
            TransportError::Closed => Self::PeerClosed,
            TransportError::Silent { .. } => Self::Silent,
            // The system's keep-alive or retransmission got no answer.
            TransportError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Self::Silent,
            TransportError::TimedOut { .. } => Self::TooSlow,
            TransportError::Protocol(_) | TransportError::FrameTooLarge { .. } => Self::BrokeRules,
            // Disconnected, Io, and errors that transports may add.
            _ => Self::Broken,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl DisconnectCells {
    /// Counts the end of a connection.
    pub(crate) fn count(&self, kind: &Kind, cause: Cause) {
        let EndCells { peer_closed, broken, silent, too_slow, broke_rules, closed, shut_down } =
            match kind {
                Kind::Client => &self.clients,
                Kind::Upstream(_) => &self.upstreams,
                // Local CoValues are no links.
                Kind::Local(_) => return,
            };
        let cell = match cause {
            Cause::PeerClosed => peer_closed,
            Cause::Broken => broken,
            Cause::Silent => silent,
            Cause::TooSlow => too_slow,
            Cause::BrokeRules => broke_rules,
            Cause::Closed => closed,
            Cause::ShutDown => shut_down,
        };
        add(cell, 1);
    }
}

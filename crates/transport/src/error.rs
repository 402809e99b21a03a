//! The errors of a connection, and who is to blame.

use std::io;
use std::time::Duration;

use downbeat_protocol::DecodeError;

use crate::admission::AdmissionRefusal;

/// Who is to blame for an error. Decides whether to retry, and how to log it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer broke the rules of the transport or went over a limit.
    Peer,
    /// The network or the operating system: the link broke, or the peer is unreachable or refuses.
    Link,
    /// This program: it used a connection that is closed.
    Caller,
}

/// Why a connection could not be made, or ended without an orderly close.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// One side has closed the connection, so nothing more can be sent.
    #[error("the connection is closed")]
    Closed,
    /// The link ended without the transport's closing handshake.
    #[error("the peer went away without closing the connection")]
    Disconnected,
    /// The socket failed.
    #[error(transparent)]
    Io(io::Error),
    /// The peer broke the rules of the transport; the connection is over.
    #[error("the peer broke the transport's rules: {0}")]
    Protocol(String),
    /// The peer sent a frame over the size limit; the connection is over.
    #[error("the peer sent a frame of more than {max} bytes")]
    FrameTooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// An operation exceeded its time limit.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// The operation, as the start of a sentence.
        what: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// The peer sent nothing for this long, not even a keepalive: it hangs, or packets are lost.
    #[error("the peer has sent nothing for {limit:?}")]
    Silent {
        /// The time limit.
        limit: Duration,
    },
    /// An incomplete message of the peer was given up, because others waited for its memory.
    #[error("an incomplete message was given up, because others waited for its memory")]
    Displaced,
    /// The server answered with a refusal.
    #[error("the peer refused the connection: {reason}")]
    Refused {
        /// The server's reason, cut to a length that is safe to log.
        reason: String,
    },
    /// This side did not admit the peer, and has told it the reason.
    #[error("the peer was not admitted")]
    NotAdmitted(#[source] AdmissionRefusal),
}

impl TransportError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Protocol(_) | Self::FrameTooLarge { .. } | Self::NotAdmitted(_) => Blame::Peer,
            Self::Disconnected
            | Self::Io(_)
            | Self::TimedOut { .. }
            | Self::Silent { .. }
            | Self::Displaced
            | Self::Refused { .. } => Blame::Link,
            Self::Closed => Blame::Caller,
        }
    }
}

impl From<io::Error> for TransportError {
    /// An end of the link that the operating system reports as an error becomes
    /// [`Self::Disconnected`].
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Disconnected,
            _ => Self::Io(error),
        }
    }
}

/// A frame or message that was dropped. The connection goes on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DroppedFrame {
    /// A frame, or one message of it, could not be decoded.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// A frame of a kind that does not carry messages on this transport.
    #[error("a frame of a kind that carries no messages: {0}")]
    WrongFrame(&'static str),
    /// A frame over the size limit. It ends the connection: the next
    /// [`receive`](crate::Receiver::receive) is [`TransportError::FrameTooLarge`].
    #[error("a frame of more than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_the_link_differs_from_a_failing_socket() {
        let reset = TransportError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(reset, TransportError::Disconnected));
        let other = TransportError::from(io::Error::other("no buffer space"));
        assert!(matches!(other, TransportError::Io(_)));
    }

    #[test]
    fn the_peer_is_blamed_only_for_its_own_errors() {
        assert_eq!(TransportError::FrameTooLarge { max: 1 }.blame(), Blame::Peer);
        assert_eq!(TransportError::Protocol("x".into()).blame(), Blame::Peer);
        assert_eq!(TransportError::Disconnected.blame(), Blame::Link);
        assert_eq!(TransportError::Closed.blame(), Blame::Caller);
    }
}

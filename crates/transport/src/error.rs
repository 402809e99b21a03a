//! What can go wrong on a connection, and whose doing it is.

use std::io;
use std::time::Duration;

use downbeat_protocol::DecodeError;

/// Whose doing an error is: what decides whether to try again, to log loudly, or to blame a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer broke the rules of the transport or went over a limit.
    Peer,
    /// Nobody's in particular: the link broke off, the peer is unreachable or refuses for now.
    Link,
    /// This program's: the use of a connection that is closed.
    Caller,
}

/// Why a connection could not be made, or ended other than by an orderly close.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The connection was closed before, by either side; nothing more can be sent.
    #[error("the connection is closed")]
    Closed,
    /// The link ended without the transport's closing handshake.
    #[error("the peer went away without closing the connection")]
    Disconnected,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// The peer broke the rules of the transport; the connection is over.
    #[error("the peer broke the transport's rules: {0}")]
    Protocol(String),
    /// The peer sent more in one frame than is accepted; the connection is over.
    #[error("the peer sent a frame of more than {max} bytes")]
    FrameTooLarge {
        /// What is accepted, in bytes.
        max: usize,
    },
    /// Something that has a time limit was not done in time.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// What was waited for, as a phrase that starts a sentence.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// Nothing at all has come from the peer for this long, though it was to show that it is there:
    /// it hangs, or the packets vanish.
    #[error("nothing has come from the peer for {limit:?}")]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// The other side answered, and does not want this connection.
    #[error("the peer refused the connection: {reason}")]
    Refused {
        /// What it said, cut to a length that is safe to log.
        reason: String,
    },
}

impl TransportError {
    /// Whose doing this is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Protocol(_) | Self::FrameTooLarge { .. } => Fault::Peer,
            Self::Disconnected
            | Self::Io(_)
            | Self::TimedOut { .. }
            | Self::Silent { .. }
            | Self::Refused { .. } => Fault::Link,
            Self::Closed => Fault::Caller,
        }
    }
}

impl From<io::Error> for TransportError {
    /// An end of the link that the operating system reports as an error is [`Self::Disconnected`].
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

/// Something a peer sent that was dropped while the connection goes on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// A frame, or one message of it, could not be decoded.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// A frame of a kind that carries no messages on this transport.
    #[error("a frame of a kind that carries no messages: {0}")]
    WrongFrame(&'static str),
    /// A frame over the limit. The connection ends with it: the next
    /// [`receive`](crate::Receiver::receive) is [`TransportError::FrameTooLarge`].
    #[error("a frame of more than {max} bytes")]
    TooLarge {
        /// What is accepted, in bytes.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_the_link_is_told_from_a_failing_socket() {
        let reset = TransportError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(reset, TransportError::Disconnected));
        let other = TransportError::from(io::Error::other("no buffer space"));
        assert!(matches!(other, TransportError::Io(_)));
    }

    #[test]
    fn only_what_the_peer_did_is_the_peers_fault() {
        assert_eq!(TransportError::FrameTooLarge { max: 1 }.fault(), Fault::Peer);
        assert_eq!(TransportError::Protocol("x".into()).fault(), Fault::Peer);
        assert_eq!(TransportError::Disconnected.fault(), Fault::Link);
        assert_eq!(TransportError::Closed.fault(), Fault::Caller);
    }
}

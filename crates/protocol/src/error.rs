//! What can be wrong with bytes that should be messages.

use std::fmt;

use crate::id::InvalidId;

/// A limit of decoding. It is printed as the member of [`Limits`](crate::Limits) that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes in one message.
    MessageBytes,
    /// Messages in one frame.
    MessagesPerFrame,
    /// Transactions in one message.
    Transactions,
    /// Sessions in one message.
    Sessions,
    /// CoValues in one reconcile message.
    ReconcileValues,
    /// Nesting of JSON arrays and objects.
    Depth,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageBytes => "message_bytes",
            Self::MessagesPerFrame => "messages_per_frame",
            Self::Transactions => "transactions",
            Self::Sessions => "sessions",
            Self::ReconcileValues => "reconcile_values",
            Self::Depth => "depth",
        })
    }
}

/// Why a frame, a message or a part of one could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON; the position is a byte offset in the frame.
    #[error("not JSON: {reason} at byte {offset}")]
    Syntax {
        /// What was found or missing.
        reason: &'static str,
        /// Where, counted in bytes from the start of what was decoded.
        offset: usize,
    },
    /// A member that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member has a value of a wrong kind.
    #[error("`{member}` is not {expected}")]
    Invalid {
        /// The member's name.
        member: &'static str,
        /// What it should be, as a phrase.
        expected: &'static str,
    },
    /// The message's kind is none of the protocol.
    #[error("unknown action `{0}`")]
    UnknownAction(String),
    /// An identifier is malformed.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// More than is accepted.
    #[error("more than the limit `{limit}` of {max}")]
    LimitExceeded {
        /// Which limit.
        limit: Limit,
        /// Its value.
        max: u64,
    },
    /// Not the binary encoding of a message.
    #[error("not a binary message: {0}")]
    Binary(String),
}

impl DecodeError {
    pub(crate) const fn limit(limit: Limit, max: usize) -> Self {
        // No platform has addresses of more than 64 bits.
        Self::LimitExceeded { limit, max: max as u64 }
    }

    pub(crate) const fn invalid(member: &'static str, expected: &'static str) -> Self {
        Self::Invalid { member, expected }
    }
}

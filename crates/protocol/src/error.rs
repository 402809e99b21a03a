//! Decoding errors.

use std::fmt;

use crate::invalid_id::InvalidId;

/// A limit on the accepted input. Its text is the name of the field in [`Limits`](crate::Limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes in one message.
    MessageBytes,
    /// Bytes in the header of a CoValue.
    HeaderBytes,
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
            Self::HeaderBytes => "header_bytes",
            Self::MessagesPerFrame => "messages_per_frame",
            Self::Transactions => "transactions",
            Self::Sessions => "sessions",
            Self::ReconcileValues => "reconcile_values",
            Self::Depth => "depth",
        })
    }
}

/// Why a frame, a message or a part of a message cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input is not JSON.
    #[error("not JSON: {reason} at byte {offset}")]
    Syntax {
        /// The reason.
        reason: &'static str,
        /// The position, in bytes from the start of the input.
        offset: usize,
    },
    /// A required member is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member has an invalid value.
    #[error("`{member}` is not {expected}")]
    Invalid {
        /// The name of the member.
        member: &'static str,
        /// A description of the expected value.
        expected: &'static str,
    },
    /// The protocol has no messages with this action.
    #[error("unknown action `{0}`")]
    UnknownAction(String),
    /// An identifier is invalid.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The input exceeds a limit.
    #[error("more than the limit `{limit}` of {max}")]
    LimitExceeded {
        /// The limit.
        limit: Limit,
        /// The value of the limit.
        max: u64,
    },
    /// The input is not a message of the binary codec.
    #[error("not a binary message: {0}")]
    Binary(String),
}

impl DecodeError {
    pub(crate) const fn limit(limit: Limit, max: usize) -> Self {
        // Addresses have at most 64 bits.
        Self::LimitExceeded { limit, max: max as u64 }
    }

    pub(crate) const fn invalid(member: &'static str, expected: &'static str) -> Self {
        Self::Invalid { member, expected }
    }
}

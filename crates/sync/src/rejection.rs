//! The reasons why content is refused.

use downbeat_core::delete::DeleteError;
use downbeat_protocol::CoValueId;

/// The reason why content was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The header's hash is not the id.
    #[error("the header hashes to {actual}")]
    HeaderMismatch {
        /// The id that the header would have.
        actual: CoValueId,
    },
    /// The signature does not match the log.
    #[error("the signature does not match the session's log after transaction {after}")]
    BadSignature {
        /// How many transactions of the session are in the log.
        after: u64,
    },
    /// The author has signed another history of the session: it lost the end of its log, and wrote
    /// other transactions at the same positions.
    #[error("the session's author has forked it after transaction {at}")]
    Forked {
        /// How many transactions the two histories have in common.
        at: u64,
    },
    /// The session's owner is a CoValue, but no account.
    #[error("the session's owner is not an account")]
    NotAnAccount,
    /// The owner's key is not a point of the curve.
    #[error("the session's owner has no valid signing key")]
    InvalidSigner,
    /// Sessions could not be decoded. There is one report for all of a message, about the first.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A delete session that may not delete.
    #[error("the deletion is not valid: {0}")]
    InvalidDelete(#[from] DeleteError),
    /// The log before these transactions could not be read back to check them.
    #[error("the session's log could not be read from storage")]
    Unreadable,
    /// A dependency did not come in time.
    #[error("dependency {0} did not arrive")]
    MissingDependency(CoValueId),
    /// Too much content is waiting for dependencies.
    #[error("too much content waits for dependencies")]
    HeldTooMuch,
    /// The peer has sent bad content of this CoValue before.
    #[error("ignored after earlier bad content of this CoValue")]
    Errored,
    /// The peer has more subscriptions than it may.
    #[error("the peer has as many subscriptions as it may")]
    TooManySubscriptions,
}

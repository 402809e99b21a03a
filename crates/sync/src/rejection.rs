//! The reasons why content is refused.

use downbeat_core::delete::DeleteError;
use downbeat_protocol::CoValueId;

/// The reason why content was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The header's hash is not the id.
    #[error("the header hashes to {actual}")]
    HeaderMismatch {
        /// The id that belongs to the header.
        actual: CoValueId,
    },
    /// The signature does not match the log.
    #[error("the signature does not match the session's log after transaction {after}")]
    BadSignature {
        /// The number of transactions in the log.
        after: u64,
    },
    /// The author has signed two histories of the session: it lost the end of its log, and wrote
    /// other transactions at the same positions.
    #[error("the session's author has forked it after transaction {at}")]
    Forked {
        /// The number of transactions that the two histories have in common.
        at: u64,
    },
    /// The session's owner is a CoValue that is not an account.
    #[error("the session's owner is not an account")]
    NotAnAccount,
    /// The owner's key is not a point on the curve.
    #[error("the session's owner has no valid signing key")]
    InvalidSigner,
    /// Sessions could not be decoded. A message has one report, about the first of them.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A deletion by an author who may not delete, or with the wrong content.
    #[error("the deletion is not valid: {0}")]
    InvalidDelete(#[from] DeleteError),
    /// The log before these transactions could not be read, so they could not be verified.
    #[error("the session's log could not be read from storage")]
    Unreadable,
    /// A dependency did not arrive in time.
    #[error("dependency {0} did not arrive")]
    MissingDependency(CoValueId),
    /// Too much content of the peer waits for dependencies.
    #[error("too much content waits for dependencies")]
    HeldTooMuch,
    /// The peer has sent bad content for this CoValue before.
    #[error("ignored after earlier bad content for this CoValue")]
    Errored,
    /// The peer has reached its limit of subscriptions.
    #[error("the peer has reached its limit of subscriptions")]
    TooManySubscriptions,
}

//! What taking foreign content needs, and what can come of it.

use downbeat_protocol::{AgentId, CoValueId, SessionId};

use crate::delete::{Claim, DeleteError};
use crate::session_log::LogError;

/// What must be known of other CoValues to check the content of one.
///
/// A closure from an account's id to its agent will do where nothing is deleted.
pub trait Directory {
    /// The agent that signs for an account ([`Header::account_agent`] of its header), or `None`
    /// if the account is not there, or not an account.
    ///
    /// [`Header::account_agent`]: downbeat_protocol::Header::account_agent
    fn agent(&self, account: CoValueId) -> Option<AgentId>;

    /// Whether a claim to delete is valid: whether its author was an admin of the owning group
    /// at the time. See [`Claim::decide`] and [`Roles`](crate::Roles).
    ///
    /// Unless provided, roles are unknown and nothing is deleted.
    fn may_delete(&self, claim: &Claim) -> Result<(), DeleteError> {
        let _ = claim;
        Err(DeleteError::RoleUnknown)
    }
}

impl<F: Fn(CoValueId) -> Option<AgentId>> Directory for F {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        self(account)
    }
}

/// Why content as a whole cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The header belongs to another CoValue.
    #[error("the header is that of {actual}, not of {id}")]
    HeaderMismatch {
        /// The id that came with the header.
        id: CoValueId,
        /// The id that the header has.
        actual: CoValueId,
    },
    /// The first content of a CoValue must have its header.
    #[error("the header of {0} is not known")]
    NoHeader(CoValueId),
    /// The content is another CoValue's.
    #[error("this is content of {0}")]
    OtherCoValue(CoValueId),
}

/// Why the transactions of one session are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// They do not extend the log: there is a gap before them, or their signature is wrong.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The account that writes the session is not there, or is not an account.
    #[error("{0} is not known as an account")]
    UnknownAccount(CoValueId),
    /// The CoValue is deleted, and takes only delete sessions.
    #[error("the CoValue is deleted")]
    Deleted,
    /// They are to delete the CoValue, and may not.
    #[error("not a valid deletion: {0}")]
    Delete(#[from] DeleteError),
}

/// Why a transaction of one's own cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The secret is not that of the agent that owns the session.
    #[error("the session belongs to {0}, which has another key")]
    WrongSigner(AgentId),
    /// The CoValue is deleted.
    #[error("the CoValue is deleted")]
    Deleted,
    /// The session can hold only a valid deletion.
    #[error("not a valid deletion: {0}")]
    Delete(#[from] DeleteError),
}

/// What became of a content message, session by session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "sessions can have been refused"]
pub struct Ingested {
    /// Each session of the message, in its order, with the number of transactions that were new,
    /// or the reason why none was taken. One session's failure does not touch the others.
    pub sessions: Vec<(SessionId, Result<u64, SessionError>)>,
}

impl Ingested {
    /// The sessions that were refused.
    pub fn refused(&self) -> impl Iterator<Item = (&SessionId, &SessionError)> {
        self.sessions.iter().filter_map(|(session, result)| Some((session, result.as_ref().err()?)))
    }

    /// The number of new transactions in all sessions.
    pub fn added(&self) -> u64 {
        self.sessions.iter().filter_map(|(_, result)| result.as_ref().ok()).sum()
    }
}

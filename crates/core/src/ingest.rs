//! Ingesting content: the lookups that verification needs, its errors and its results.

use downbeat_protocol::{AgentId, CoValueId, SessionId};

use crate::delete::{Claim, DeleteError};
use crate::session_log::LogError;

/// Looks up the facts about accounts and groups that verification needs.
///
/// A closure from an account's id to its agent is a directory that accepts no deletions.
pub trait Directory {
    /// The agent that signs for an account ([`Header::account_agent`] of its header), or `None`
    /// if the account is unknown or not an account.
    ///
    /// [`Header::account_agent`]: downbeat_protocol::Header::account_agent
    fn agent(&self, account: CoValueId) -> Option<AgentId>;

    /// Decides whether a deletion is valid: its author must have been an admin of the owning group
    /// at the time. See [`Claim::decide`] and [`Roles`](crate::Roles).
    ///
    /// The default implementation refuses every deletion.
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

/// Why a whole content message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The header belongs to another CoValue.
    #[error("the header belongs to {actual}, not to {id}")]
    HeaderMismatch {
        /// The id in the message.
        id: CoValueId,
        /// The id of the header.
        actual: CoValueId,
    },
    /// The first content of a CoValue has no header.
    #[error("the header of {0} is missing")]
    NoHeader(CoValueId),
    /// The content belongs to another CoValue.
    #[error("the content belongs to {0}")]
    OtherCoValue(CoValueId),
}

/// Why the transactions of one session are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The transactions do not extend the log: there is a gap, or the signature is wrong.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The owner of the session is unknown or not an account.
    #[error("the account {0} is unknown")]
    UnknownAccount(CoValueId),
    /// The CoValue is deleted and accepts only delete sessions.
    #[error("the CoValue is deleted")]
    Deleted,
    /// The transactions are not a valid deletion.
    #[error("not a valid deletion")]
    Delete(#[from] DeleteError),
}

/// Why a new transaction cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The secret does not belong to the agent that owns the session.
    #[error("the secret does not belong to {0}, which owns the session")]
    WrongSigner(AgentId),
    /// The CoValue is deleted.
    #[error("the CoValue is deleted")]
    Deleted,
    /// The session accepts only a valid deletion.
    #[error("not a valid deletion")]
    Delete(#[from] DeleteError),
}

/// The result of a content message, session by session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "some sessions may be refused"]
pub struct Ingested {
    /// The sessions of the message, in order, each with the number of new transactions or the
    /// reason for its refusal. A refused session does not affect the others.
    pub sessions: Vec<(SessionId, Result<u64, SessionError>)>,
}

impl Ingested {
    /// The refused sessions.
    pub fn refused(&self) -> impl Iterator<Item = (&SessionId, &SessionError)> {
        self.sessions.iter().filter_map(|(session, result)| Some((session, result.as_ref().err()?)))
    }

    /// The number of new transactions of all sessions.
    pub fn added(&self) -> u64 {
        self.sessions.iter().filter_map(|(_, result)| result.as_ref().ok()).sum()
    }
}

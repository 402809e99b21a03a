//! The messages that peers exchange.

use crate::error::DecodeError;
use crate::header::{Header, Priority};
use crate::id::{CoValueId, SessionId, UnknownId};
use crate::key::{ShortHash, Signature};
use crate::known_state::{KnownState, SessionCounts};
use crate::transaction::Transaction;

/// The length of the longest accepted id of a reconcile batch, in bytes. Clients make ids of 17
/// bytes (12 random bytes in base58).
pub const MAX_BATCH_ID_LEN: usize = 1_024;

/// Checks the length of a reconcile batch's id, which is kept until the batch is acknowledged.
pub(crate) fn batch_id(text: &str) -> Result<String, DecodeError> {
    if text.len() > MAX_BATCH_ID_LEN {
        return Err(DecodeError::invalid("id", "a batch id of at most 1,024 bytes"));
    }
    Ok(text.to_owned())
}

/// One message of the sync protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Subscribes to a CoValue, with the sender's known state.
    Load(KnownState),
    /// The sender's known state of a CoValue: an acknowledgement or a correction.
    Known(Known),
    /// New transactions of a CoValue.
    Content(Content),
    /// Signals completion. No peer uses it.
    Done(CoValueId),
    /// Compares the states of many CoValues with the receiver's.
    Reconcile(Reconcile),
    /// Acknowledges that all CoValues of a reconcile message are synchronized.
    ReconcileAck(String),
    /// A message about a text that cannot name a CoValue.
    Unknown(Unknown),
}

/// A message about a text that cannot name a CoValue.
///
/// It has no other content, because no such CoValue can exist. [`Self::answer`] makes the answer to
/// a peer that asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The text in the `id` member.
    pub id: UnknownId,
    /// The kind of message.
    pub kind: UnknownKind,
}

/// The kind of an [`Unknown`] message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKind {
    /// LOAD.
    Load,
    /// KNOWN without a header.
    Known {
        /// Whether the message is a correction.
        is_correction: bool,
    },
    /// CONTENT without a header. With a header, whose hash cannot be such an id, it is malformed.
    Content,
}

impl Unknown {
    /// The answer, which is the same as for a missing CoValue. A KNOWN message has no answer.
    pub fn answer(&self) -> Option<Self> {
        let is_correction = match self.kind {
            UnknownKind::Load => false,
            UnknownKind::Content => true,
            UnknownKind::Known { .. } => return None,
        };
        Some(Self { id: self.id.clone(), kind: UnknownKind::Known { is_correction } })
    }
}

/// The sender's known state of a CoValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The known state.
    pub state: KnownState,
    /// Whether the state replaces the receiver's view of the sender, because the sender lacks
    /// content that the receiver assumed it to have. Otherwise the state is merged into that view.
    pub is_correction: bool,
    /// The CoValue that depends on this one, if the peer names it.
    pub as_dependency_of: Option<CoValueId>,
}

/// New transactions of a CoValue. Large content is sent in several messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The CoValue.
    pub id: CoValueId,
    /// The header, in the first content message that a peer receives.
    pub header: Option<Header>,
    /// The priority that the sender assumes. Receivers use the priority of the header instead.
    pub priority: Priority,
    /// The new transactions, each session at most once.
    pub sessions: Vec<SessionContent>,
    /// The sessions that could not be decoded; the other sessions are unaffected.
    pub malformed: Vec<MalformedSession>,
    /// In the first of several messages: the counts after the last message.
    pub expect_content_until: Option<SessionCounts>,
}

/// A run of one session's transactions.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionContent {
    /// The session.
    pub session: SessionId,
    /// The number of transactions of the session before these.
    pub after: u64,
    /// The transactions, in the order of the log.
    pub transactions: Vec<Transaction>,
    /// The signature of the whole log up to the last of these transactions.
    pub last_signature: Signature,
}

/// A session of a content message that could not be decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct MalformedSession {
    /// The beginning of the session's id as it was received, short enough for a log.
    pub session: String,
    /// The error.
    pub error: DecodeError,
}

/// A batch of CoValues whose states are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconcile {
    /// The id of the batch, for the acknowledgement.
    pub id: String,
    /// The CoValues, each with the short hash of the sender's session counts.
    pub values: Vec<(CoValueId, ShortHash)>,
}

/// The keep-alive message of a server. It is not a message of the sync protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The server's time, in milliseconds since the Unix epoch.
    pub time: u64,
    /// The server's name ("data centre").
    pub dc: String,
}

impl Message {
    /// The CoValue of the message, or `None` for kinds that concern many CoValues or no valid one.
    pub fn co_value(&self) -> Option<CoValueId> {
        match self {
            Self::Load(state) => Some(state.id),
            Self::Known(known) => Some(known.state.id),
            Self::Content(content) => Some(content.id),
            Self::Done(id) => Some(*id),
            Self::Reconcile(_) | Self::ReconcileAck(_) | Self::Unknown(_) => None,
        }
    }

    /// The value of the `action` member for this kind of message.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Load(_) => "load",
            Self::Known(_) => "known",
            Self::Content(_) => "content",
            Self::Done(_) => "done",
            Self::Reconcile(_) => "reconcile",
            Self::ReconcileAck(_) => "reconcile-ack",
            Self::Unknown(unknown) => match unknown.kind {
                UnknownKind::Load => "load",
                UnknownKind::Known { .. } => "known",
                UnknownKind::Content => "content",
            },
        }
    }
}

impl SessionContent {
    /// The session's count after these transactions.
    pub fn end(&self) -> u64 {
        self.after.saturating_add(self.transactions.len() as u64)
    }

    /// Drops the first transactions. The others are copied if they are fewer bytes, so that they do
    /// not keep the memory of those that were dropped.
    pub fn drop_first(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let before = self.json_len();
        self.transactions.drain(..count.min(self.transactions.len()));
        self.after = self.after.saturating_add(count as u64);
        Transaction::detach(&mut self.transactions, usize::try_from(before).unwrap_or(usize::MAX));
    }

    /// The length of the transactions' canonical JSON in bytes. Quotas, credit and caches count a
    /// run's size like this.
    pub fn json_len(&self) -> u64 {
        self.transactions.iter().map(|transaction| transaction.json().len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_and_the_end_of_a_run_follow_from_its_transactions() {
        let transactions = vec![
            Transaction::trusting("[]", 1, None),
            Transaction::private("encrypted_Ué", "key_z1", 2, None),
        ];
        let json_len = transactions[0].json().len() + transactions[1].json().len();
        let run = SessionContent {
            session: SessionId::parse("co_z1_session_z1").unwrap(),
            after: 3,
            transactions,
            last_signature: Signature::from_bytes(&[0; 64]),
        };
        assert_eq!((run.json_len(), run.end()), (json_len as u64, 5));
    }
}

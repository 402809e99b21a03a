//! The messages that peers exchange.

use crate::error::DecodeError;
use crate::header::{Header, Priority};
use crate::id::{CoValueId, SessionId, UnknownId};
use crate::key::{ShortHash, Signature};
use crate::known_state::{KnownState, SessionCounts};
use crate::transaction::Transaction;

/// One message of the sync protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Subscribe to a CoValue, with what the sender has of it.
    Load(KnownState),
    /// What the sender has of a CoValue: an acknowledgement, or a correction.
    Known(Known),
    /// New transactions of a CoValue.
    Content(Content),
    /// Signals completion; no peer makes use of it.
    Done(CoValueId),
    /// Asks which of these CoValues the receiver has in another state.
    Reconcile(Reconcile),
    /// All of a reconcile's CoValues have been brought up to date.
    ReconcileAck(String),
    /// A message about a text that cannot name a CoValue.
    Unknown(Unknown),
}

/// A message about a text that cannot name a CoValue.
///
/// It carries nothing but the text: the sender cannot have anything of such a CoValue.
/// [`Self::answer`] is what a peer gets that asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The text in the place of the id.
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
        /// Whether it is a correction.
        is_correction: bool,
    },
    /// CONTENT without a header. With a header, which cannot hash to such an id, it is malformed.
    Content,
}

impl Unknown {
    /// The answer, which is the one about a CoValue that nobody has. There is none to KNOWN.
    pub fn answer(&self) -> Option<Self> {
        let is_correction = match self.kind {
            UnknownKind::Load => false,
            UnknownKind::Content => true,
            UnknownKind::Known { .. } => return None,
        };
        Some(Self { id: self.id.clone(), kind: UnknownKind::Known { is_correction } })
    }
}

/// What the sender of a KNOWN message has of a CoValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What the sender has.
    pub state: KnownState,
    /// Whether this replaces what the receiver believed (the sender lacks something that the
    /// receiver assumed it to have), where otherwise it adds to it.
    pub is_correction: bool,
    /// The CoValue for whose sake this one is spoken of, where a peer says so.
    pub as_dependency_of: Option<CoValueId>,
}

/// New transactions of a CoValue: one piece of what the receiver lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The CoValue.
    pub id: CoValueId,
    /// The header, in the first content that a peer gets of a CoValue.
    pub header: Option<Header>,
    /// How urgent the sender holds this to be. A receiver goes by the header instead.
    pub priority: Priority,
    /// The new transactions, each session at most once.
    pub sessions: Vec<SessionContent>,
    /// Sessions of this message that could not be decoded; the others are unaffected.
    pub malformed: Vec<MalformedSession>,
    /// In the first of several pieces: the counts to expect in the end.
    pub expect_content_until: Option<SessionCounts>,
}

/// A run of one session's transactions.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionContent {
    /// The session.
    pub session: SessionId,
    /// How many transactions of the session come before these.
    pub after: u64,
    /// The transactions, in the order of the log.
    pub transactions: Vec<Transaction>,
    /// Covers the whole log up to the last transaction here.
    pub last_signature: Signature,
}

/// A session of a content message that could not be decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct MalformedSession {
    /// The session's id as far as it could be read, cut to a length that is safe to log.
    pub session: String,
    /// What is wrong with it.
    pub error: DecodeError,
}

/// A batch of CoValues to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconcile {
    /// Names the batch in the acknowledgement.
    pub id: String,
    /// CoValues with the short hash of the sender's sessions map.
    pub values: Vec<(CoValueId, ShortHash)>,
}

/// The server's sign of life on a WebSocket; not a message of the sync protocol itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The server's time, in milliseconds since the Unix epoch.
    pub time: u64,
    /// A name for the server ("data centre").
    pub dc: String,
}

impl Message {
    /// The CoValue that the message is about; reconcile messages are about many, and others about
    /// none.
    pub fn co_value(&self) -> Option<CoValueId> {
        match self {
            Self::Load(state) => Some(state.id),
            Self::Known(known) => Some(known.state.id),
            Self::Content(content) => Some(content.id),
            Self::Done(id) => Some(*id),
            Self::Reconcile(_) | Self::ReconcileAck(_) | Self::Unknown(_) => None,
        }
    }

    /// The word that stands for the kind of message in the `action` member.
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
    /// The session's count once these transactions are there.
    pub fn end(&self) -> u64 {
        self.after.saturating_add(self.transactions.len() as u64)
    }

    /// The length of the transactions' canonical JSON in bytes. Quotas, credit and caches count a
    /// run's size like this.
    pub fn json_len(&self) -> u64 {
        self.transactions.iter().map(|transaction| transaction.json().len() as u64).sum()
    }
}

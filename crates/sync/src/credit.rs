//! Credit: how many bytes a peer's content counts for while the machine has it.

use downbeat_protocol::{Content, SessionContent};

use crate::event::PeerId;

/// Bytes that a content message costs in addition to its header and runs, so that messages
/// without transactions are not free.
const MESSAGE_OVERHEAD: u64 = 256;

/// Bytes that a run costs in addition to its transactions: mostly the session's id and the
/// signature.
const RUN_OVERHEAD: u64 = 256;

/// The credit of a content message: somewhat more than the bytes in it. A runtime that limits the
/// content in flight per peer takes this much credit for each message, and gets it back with
/// [`Action::Release`](crate::Action::Release).
///
/// Not covered by semantic versioning: the overheads change with the machine's structures.
#[doc(hidden)]
pub fn content_credit(content: &Content) -> u64 {
    message_credit(content) + content.sessions.iter().map(run_credit).sum::<u64>()
}

/// The part of a message's credit that does not belong to its runs.
pub(crate) fn message_credit(content: &Content) -> u64 {
    MESSAGE_OVERHEAD + content.header.as_ref().map_or(0, |header| header.json().len() as u64)
}

/// The part of a message's credit that belongs to one run.
pub(crate) fn run_credit(run: &SessionContent) -> u64 {
    RUN_OVERHEAD + run.json_len()
}

/// Credit that the machine owes to a peer. It moves with the content, and cannot be copied, so
/// that it is released once.
#[derive(Debug)]
#[must_use = "a peer that does not get its credit back stops sending"]
pub(crate) struct Credit {
    peer: PeerId,
    bytes: u64,
}

impl Credit {
    /// The credit of a message that a peer has just sent.
    pub(crate) fn of(peer: PeerId, content: &Content) -> Self {
        Self { peer, bytes: content_credit(content) }
    }

    /// No credit, for content whose credit has been released already.
    pub(crate) fn released(peer: PeerId) -> Self {
        Self { peer, bytes: 0 }
    }

    /// The peer that sent the content.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Takes a part out: as many bytes as there are, at most `bytes`.
    pub(crate) fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { peer: self.peer, bytes }
    }

    /// Takes all of it out.
    pub(crate) fn take(&mut self) -> Self {
        self.split(u64::MAX)
    }

    /// Adds the credit of content that the same peer sent.
    pub(crate) fn merge(&mut self, other: Self) {
        debug_assert_eq!(self.peer, other.peer, "credit belongs to one peer");
        self.bytes += other.into_bytes();
    }

    /// The bytes to release.
    pub(crate) fn into_bytes(self) -> u64 {
        self.bytes
    }
}

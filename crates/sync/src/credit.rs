//! Credit that the machine owes to peers for content in progress.

use downbeat_protocol::Content;

use crate::cost::content_credit;
use crate::event::PeerId;

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

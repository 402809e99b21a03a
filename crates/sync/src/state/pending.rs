//! Content that a peer has sent, and that the machine has not finished with.

use downbeat_protocol::{CoValueId, Content, SessionContent};

use crate::credit::Credit;
use crate::event::{Millis, PeerId};

/// A content message that waits: for an answer from storage, for its dependencies, or for a group
/// to be stored. Wherever it waits, its credit moves with it.
#[derive(Debug)]
pub(crate) struct PendingContent {
    pub content: Content,
    pub credit: Credit,
    /// When the content is given up. Absent until it waits for a dependency for the first time.
    pub deadline: Option<Millis>,
}

impl PendingContent {
    /// A message that a peer has just sent.
    pub(crate) fn received(peer: PeerId, content: Content) -> Self {
        let credit = Credit::of(peer, &content);
        Self { content, credit, deadline: None }
    }

    /// The peer that sent it.
    pub(crate) fn peer(&self) -> PeerId {
        self.credit.peer()
    }

    pub(crate) fn id(&self) -> CoValueId {
        self.content.id
    }

    /// Whether it waits for a dependency, or has waited for one before.
    pub(crate) fn was_held(&self) -> bool {
        self.deadline.is_some()
    }
}

/// A run that waits until the runs before it are verified.
#[derive(Debug)]
pub(crate) struct PendingRun {
    pub run: SessionContent,
    pub credit: Credit,
}

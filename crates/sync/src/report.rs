//! Reports for the operator: one for each log line or metric.

use downbeat_protocol::{CoValueId, SessionId};

use crate::event::PeerId;
use crate::rejection::Rejection;

/// Refused content: its sender, its CoValue, and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The sender.
    pub peer: PeerId,
    /// The CoValue.
    pub id: CoValueId,
    /// The session, if the reason concerns one.
    pub session: Option<String>,
    /// The reason.
    pub rejection: Rejection,
}

impl Report {
    pub(crate) fn new(peer: PeerId, id: CoValueId, rejection: Rejection) -> Self {
        Self { peer, id, session: None, rejection }
    }

    pub(crate) fn session(self, session: &SessionId) -> Self {
        Self { session: Some(session.to_string()), ..self }
    }
}

//! The rules that no step may break.

use std::fmt;

use crate::cast::Unforeseen;

/// A rule that a step has broken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    /// A KNOWN says more than is durable.
    AcknowledgedTooEarly,
    /// A KNOWN takes back what an earlier one has said to the same client.
    TakenBack,
    /// The machine stores content that was not verified.
    StoredUnverified,
    /// A store does not begin where the log ends.
    StoreDoesNotFollow,
    /// A peer is given a turn while it has one.
    SecondTurn,
    /// A session's content is given to the verifier while it has some.
    SecondCheck,
    /// A turn is to send what cannot be read.
    UnreadableContent,
    /// More messages than anything could need: they go in circles.
    Circle,
    /// Something that has no place in the scope.
    Unforeseen(String),
}

impl From<Unforeseen> for Violation {
    fn from(Unforeseen(what): Unforeseen) -> Self {
        Self::Unforeseen(what)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AcknowledgedTooEarly => "what is not durable is acknowledged",
            Self::TakenBack => "a known state that a client was told is taken back",
            Self::StoredUnverified => "what is not verified is stored",
            Self::StoreDoesNotFollow => "a store does not begin where the log ends",
            Self::SecondTurn => "a peer has two turns",
            Self::SecondCheck => "a session is with the verifier twice",
            Self::UnreadableContent => "a turn is to send what cannot be read",
            Self::Circle => "messages go in circles",
            Self::Unforeseen(what) => what,
        })
    }
}

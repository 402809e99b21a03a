//! The rules that no step may break.

use std::fmt;

use crate::cast::Unforeseen;

/// A rule that a step has broken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    /// A KNOWN claims content that is not durable.
    AcknowledgedTooEarly,
    /// A KNOWN claims less than an earlier one to the same client.
    TakenBack,
    /// The machine stores unverified content.
    StoredUnverified,
    /// A store does not begin where the log ends.
    StoreDoesNotFollow,
    /// The machine gives a peer a turn while the peer has one.
    SecondTurn,
    /// The machine starts a verification that is already in progress.
    SecondCheck,
    /// A turn has content that cannot be read.
    UnreadableContent,
    /// The clients send more messages than any exchange needs, so the messages have no end.
    Circle,
    /// An output that cannot occur in the scope.
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
            Self::AcknowledgedTooEarly => "content is acknowledged before it is durable",
            Self::TakenBack => "an acknowledgement is taken back",
            Self::StoredUnverified => "unverified content is stored",
            Self::StoreDoesNotFollow => "a store does not begin where the log ends",
            Self::SecondTurn => "a peer has two turns",
            Self::SecondCheck => "a verification is started twice",
            Self::UnreadableContent => "a turn has content that cannot be read",
            Self::Circle => "the messages have no end",
            Self::Unforeseen(what) => what,
        })
    }
}

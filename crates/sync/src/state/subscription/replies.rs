//! The messages that a peer gets of one CoValue.

/// A set of messages to send. Each is built with the peer's turn, from the state of that moment,
/// so that several of one kind become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PendingReplies(u8);

impl PendingReplies {
    /// An answer to a LOAD, unless content is the answer.
    pub(crate) const REPLY: Self = Self(1);
    /// A KNOWN, if the peer lacks nothing and never got one.
    pub(crate) const FIRST: Self = Self(1 << 1);
    /// A KNOWN that the CoValue does not exist.
    pub(crate) const NOT_FOUND: Self = Self(1 << 2);
    /// An acknowledgement.
    pub(crate) const KNOWN: Self = Self(1 << 3);
    /// A correction.
    pub(crate) const CORRECTION: Self = Self(1 << 4);
    /// A LOAD, to get a dependency from the peer that needs it.
    pub(crate) const LOAD: Self = Self(1 << 5);
    /// A comparison with a hash that the peer has sent in a reconcile message.
    pub(crate) const COMPARISON: Self = Self(1 << 6);
    /// The messages that wait for storage's answer, but not for upstreams' answers.
    pub(crate) const BEFORE_UPSTREAMS: Self = Self(Self::LOAD.0 | Self::CORRECTION.0);
    /// Any answer to a LOAD but content.
    pub(crate) const ANSWER: Self = Self(Self::REPLY.0 | Self::NOT_FOUND.0);

    /// Whether any of these are in the set.
    pub(crate) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    pub(crate) fn add(&mut self, replies: Self) {
        self.0 |= replies.0;
    }

    /// Takes these out. Returns whether any of them were in the set.
    pub(crate) fn take(&mut self, replies: Self) -> bool {
        let had = self.has(replies);
        self.0 &= !replies.0;
        had
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

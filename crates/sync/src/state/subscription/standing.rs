//! Whether content of a CoValue is accepted from a peer.

/// Whether content of a CoValue is accepted from a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is accepted.
    #[default]
    Good,
    /// The CoValue was refused as a whole. The peer may try again with the header.
    Refused,
    /// Content is ignored, after bad content.
    Errored,
    /// The same, and a report has said that more content was ignored.
    Ignored,
}

impl Standing {
    /// The CoValue is refused as a whole.
    pub(crate) fn refused(self) -> Self {
        match self {
            Self::Good | Self::Refused => Self::Refused,
            errored @ (Self::Errored | Self::Ignored) => errored,
        }
    }

    /// The peer has sent a header that is accepted.
    pub(crate) fn with_header(self) -> Self {
        match self {
            Self::Good | Self::Refused => Self::Good,
            errored @ (Self::Errored | Self::Ignored) => errored,
        }
    }

    /// Content was ignored. Also returns whether that has to be reported.
    pub(crate) fn ignored(self) -> (Self, bool) {
        match self {
            Self::Errored => (Self::Ignored, true),
            other => (other, false),
        }
    }

    /// Whether content is ignored, after bad content.
    pub(crate) fn is_errored(self) -> bool {
        matches!(self, Self::Errored | Self::Ignored)
    }

    pub(crate) fn is_refused(self) -> bool {
        self == Self::Refused
    }

    pub(crate) fn is_good(self) -> bool {
        self == Self::Good
    }
}

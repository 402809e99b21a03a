//! Bugs that the simulation injects, one at a time, to show that it finds them. Without the feature
//! `faults` the machine has none.

/// A bug to inject into the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "faults"), allow(unreachable_pub, reason = "public with the feature"))]
pub enum InjectedBug {
    /// KNOWN states verified counts, durable or not.
    AcknowledgeEarly,
    /// The credit of stored content is not released.
    KeepCredit,
    /// The known part of content that is known in part is taken again.
    RepeatKnownPart,
    /// Content is stored and forwarded without waiting for the verifier.
    TakeUnverified,
    /// Held content is not looked at again when its dependency arrives.
    ForgetHeld,
    /// Content that is not durable yet is never acknowledged.
    ForgetAcknowledgement,
    /// Content that waits behind a session's verification is dropped.
    DropWaiting,
    /// Every KNOWN replaces the peer's known counts.
    KnownReplaces,
    /// After a reconnection, an upstream is asked for nothing.
    AskNoUpstreamAgain,
    /// CoValues that an upstream has not acknowledged are not noted.
    ForgetUnsynced,
    /// The dependencies of a CoValue are sent behind it.
    DependantsFirst,
    /// The pending messages of a forgotten CoValue are dropped.
    OweNothingForgotten,
    /// A peer that has a turn gets another one.
    SecondTurn,
    /// Content that a turn had no room for counts as sent.
    IgnoreProgress,
    /// No corrections are sent.
    OweNoCorrection,
    /// When content is refused, other peers that wait for an acknowledgement of the CoValue are
    /// forgotten.
    ForgetOthers,
    /// An upstream that connects while storage is asked is not asked when storage has answered.
    AskNoLateUpstream,
    /// A LOAD that claims more than is here is answered by a KNOWN that is not a correction.
    AnswerLossPlainly,
    /// A reconcile message is acknowledged before its content is durable.
    ReconcileEarly,
    /// Gaps behind refused content are corrected, and each at once.
    CorrectRefused,
    /// The runtime does not learn that a peer's next turn waits for the one that is being written.
    AwaitNoTurn,
}

impl InjectedBug {
    /// All bugs.
    #[cfg(feature = "faults")]
    pub const ALL: [Self; 21] = [
        Self::AcknowledgeEarly,
        Self::KeepCredit,
        Self::RepeatKnownPart,
        Self::TakeUnverified,
        Self::ForgetHeld,
        Self::ForgetAcknowledgement,
        Self::DropWaiting,
        Self::KnownReplaces,
        Self::AskNoUpstreamAgain,
        Self::ForgetUnsynced,
        Self::DependantsFirst,
        Self::OweNothingForgotten,
        Self::SecondTurn,
        Self::IgnoreProgress,
        Self::OweNoCorrection,
        Self::ForgetOthers,
        Self::AskNoLateUpstream,
        Self::AnswerLossPlainly,
        Self::ReconcileEarly,
        Self::CorrectRefused,
        Self::AwaitNoTurn,
    ];
}

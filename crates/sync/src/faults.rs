//! Deliberate faults, one at a time, and a look inside: for the simulation, which has to show that
//! it finds them. Without the feature `faults` the machine has none, and no place to put one.

use crate::machine::Machine;

/// Something that the machine does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "faults"), allow(unreachable_pub, reason = "public with the feature"))]
pub enum Fault {
    /// KNOWN says what is verified, durable or not.
    AcknowledgeEarly,
    /// Credit for what has been stored is not given back.
    KeepCredit,
    /// Of content that is known in part, the known part is taken again.
    RepeatKnownPart,
    /// Content is taken, stored and passed on without waiting for the verifier.
    TakeUnverified,
    /// Held content is not looked at again when its dependency comes.
    ForgetHeld,
    /// What is not durable yet is never acknowledged.
    ForgetAcknowledgement,
    /// What waits behind a session's verification is dropped.
    DropWaiting,
    /// Any KNOWN replaces what is believed of the peer.
    KnownReplaces,
    /// After a reconnection, an upstream is asked for nothing.
    AskNoUpstreamAgain,
    /// No note is made of what an upstream has not acknowledged.
    ForgetUnsynced,
    /// What a CoValue depends on is sent behind it.
    DependantsFirst,
    /// What is owed of a CoValue that has been forgotten is forgotten as well.
    OweNothingForgotten,
    /// A peer that has a turn is given another.
    SecondTurn,
    /// What a turn had no room for is taken for sent.
    IgnoreProgress,
}

impl Fault {
    /// All of them.
    #[cfg(feature = "faults")]
    pub const ALL: [Self; 14] = [
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
    ];
}

#[cfg(feature = "faults")]
impl Machine {
    /// Has the machine do something wrong from now on.
    pub fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Whether the machine does this wrong.
    pub(crate) fn has_fault(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// The names of the upstreams that a CoValue is synced with.
    pub fn upstreams_of(&self, id: downbeat_protocol::CoValueId) -> Vec<crate::UpstreamName> {
        self.selected(id)
    }

    /// What is still going on, in words: nothing, once all that was begun has come to its end.
    pub fn unfinished(&self) -> Vec<String> {
        let busy = self.values.iter().filter(|(_, entry)| !entry.is_quiet());
        let mut lines: Vec<String> = busy
            .map(|(id, entry)| {
                format!(
                    "{id}: {} waiting, {} in the inbox, {} held, {} dependants, {} pins, settled {:?}",
                    entry.waiting.len(),
                    entry.inbox.len(),
                    entry.held.len(),
                    entry.dependants.len(),
                    entry.pins,
                    entry.index().map(crate::covalue::Index::is_settled)
                )
            })
            .collect();
        let walks = self.walks.keys().map(|(peer, id)| format!("a walk for {peer:?} to {id}"));
        lines.extend(walks);
        let owing = self.peers.iter().filter(|(_, peer)| !peer.owes_nothing());
        lines.extend(owing.map(|(peer, _)| format!("{peer:?} is owed something")));
        lines.sort();
        lines
    }
}

#[cfg(not(feature = "faults"))]
impl Machine {
    #[allow(clippy::unused_self, reason = "with the feature it is looked up")]
    pub(crate) const fn has_fault(&self, _fault: Fault) -> bool {
        false
    }
}

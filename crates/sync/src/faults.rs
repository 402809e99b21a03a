//! Deliberate faults, one at a time, and a look inside: for the simulation, which has to show that
//! it finds them. Without the feature `faults` the machine has none, and no place to put one.

#[cfg(feature = "faults")]
use crate::covalue::Presence;
#[cfg(feature = "faults")]
use crate::machine::MIN_STALE_STAMPS;
use crate::machine::Machine;
#[cfg(feature = "faults")]
use crate::reconcile::MAX_OPEN_BATCHES;
#[cfg(feature = "faults")]
use crate::subscription::{Owes, Subscription};
#[cfg(feature = "faults")]
use crate::upstream::MIN_STALE_LOADS;

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
    /// No corrections are sent.
    OweNoCorrection,
    /// When something is refused, others who wait for an acknowledgement of the CoValue are
    /// forgotten.
    ForgetOthers,
    /// An upstream that comes while storage is asked is not asked when storage has answered.
    AskNoLateUpstream,
    /// A LOAD that claims more than is here is answered by a KNOWN that is no correction.
    AnswerLossPlainly,
    /// A reconcile message is acknowledged before what came of it is durable.
    ReconcileEarly,
    /// Gaps are corrected behind content that was refused, and each at once.
    CorrectRefused,
}

impl Fault {
    /// All of them.
    #[cfg(feature = "faults")]
    pub const ALL: [Self; 20] = [
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

    /// Queues that have more in them than they may, in words.
    pub fn overfull(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut check = |what: String, len: usize, bound: usize| {
            if len > bound {
                lines.push(format!("{what} has {len}, and may have {bound}"));
            }
        };
        let stale = MIN_STALE_STAMPS;
        check("the list of stamps".to_owned(), self.used.len(), 2 * self.values.len() + 2 * stale);
        let bound = 2 * self.warm_chains + 2 * stale;
        check("the list of chains".to_owned(), self.chains_used.len(), bound);
        check("the number of chains".to_owned(), self.warm_chains, self.config.warm_chains);
        check(
            "the list of peers with something owed".to_owned(),
            self.ready.len(),
            self.peers.len(),
        );
        for (id, peer) in &self.peers {
            let subscriptions = peer.subscriptions.len();
            let bound = match peer.upstream {
                // Dependencies, and those on the way to be asked for.
                Some(_) => usize::MAX,
                None => self.config.subscriptions_per_peer,
            };
            check(format!("{id:?} subscriptions"), subscriptions, bound);
            check(format!("{id:?} owed"), peer.owed(), subscriptions);
            check(format!("{id:?} loads"), peer.loads.len(), subscriptions);
            let bound = 2 * subscriptions + MIN_STALE_LOADS;
            check(format!("{id:?} waiting loads"), peer.loads_waiting.len(), bound);
            check(format!("{id:?} batches"), peer.batches.len(), MAX_OPEN_BATCHES);
            let bound = usize::try_from(self.config.held_bytes_per_peer).unwrap_or(usize::MAX);
            check(format!("{id:?} held"), usize::try_from(peer.held_bytes).unwrap_or(bound), bound);
        }
        lines.sort();
        lines
    }

    /// Peers that wait to learn whether a CoValue is there, are owed something that need not wait for
    /// that, and do not stand in the queue for it, in words.
    pub fn stranded(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, entry) in self.values.iter().filter(|(_, entry)| !entry.waiting.is_empty()) {
            let due = match &entry.presence {
                Presence::Loading | Presence::Unknown(_) => continue,
                Presence::Asking(_) | Presence::Absent => Owes::BEFORE_UPSTREAMS,
                // A correction waits until something may be said.
                Presence::Here(_) => Owes::LOAD,
            };
            for (peer, _) in entry.waiting.iter().filter(|(_, served)| *served == id) {
                let is_stranded = |state: &Subscription| {
                    let mut owes = state.owes;
                    if state.correction_due(self.now).is_some() {
                        // A timer brings it.
                        owes.take(Owes::CORRECTION);
                    }
                    owes.has(due) && !state.queued
                };
                if self.subscription(*peer, id).is_some_and(is_stranded) {
                    lines.push(format!("{peer:?} waits for its part in {id}"));
                }
            }
        }
        lines.sort();
        lines
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

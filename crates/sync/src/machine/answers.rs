//! The answers that make a client send content, and when they are given.
//!
//! A client sends what it has of a CoValue
//!
//! - after a correction: everything beyond the counts in it;
//! - after a KNOWN to a LOAD, or content that is new to it: everything beyond the counts that it
//!   believes we have, which are those that we have acknowledged on any connection, and those that
//!   it has sent on this one;
//! - after our LOAD: everything beyond the counts in it.
//!
//! So a client sends acknowledged content again only after a correction. Content that was lost
//! here is answered with one. Content that is not accepted (refused, over a quota, ignored after
//! bad content, deleted) is never answered with one, and a LOAD of it on a new connection gets no
//! answer at all. Corrections of one CoValue are spaced, because the client may answer each with
//! all of it.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Known, KnownState, Message, SessionCounts};

use crate::action::Item;
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::state::subscription::{PendingReplies, Subscription};
use crate::state::timers::Timer;

/// An acknowledgement states all sessions of a CoValue that has so few. They are about 1 KiB, which
/// is not much more than a message with one transaction.
const MAX_STATED_SESSIONS: usize = 16;

/// The fate of the content that a peer claims in a LOAD to have.
enum Claim {
    /// All of it is here, or a KNOWN does no harm.
    Had,
    /// It is being verified or stored.
    InProgress,
    /// It was refused.
    Refused,
    /// It was here before, or on its way, and has been lost.
    Lost,
}

impl Machine {
    /// Adds the answer for a CoValue that is not here.
    pub(in crate::machine) fn push_absent(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        replies: PendingReplies,
        items: &mut Vec<Item>,
    ) {
        let is_client = self.is_client(peer);
        // Content that waits for something else is not lost.
        let is_holding = self.is_holding(peer, id);
        let answers_plainly = self.has_bug(InjectedBug::AnswerLossPlainly);
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        let standing = subscription.standing();
        let claims = is_client && subscription.is_claimed() && subscription.known().header;
        let is_corrected = replies.has(PendingReplies::CORRECTION);
        if !is_corrected
            && (!replies.has(PendingReplies::ANSWER) || claims && standing.is_refused())
        {
            // Any answer would make the client send the refused content.
            return;
        }
        subscription.mark_told_some();
        let is_lost = claims && !standing.is_errored() && !is_holding && !answers_plainly;
        if is_lost && !is_corrected {
            self.mark_corrected(peer, id);
        }
        let is_correction = is_corrected || is_lost;
        let state = KnownState::empty(id);
        let known = Known { state, is_correction, as_dependency_of: None };
        items.push(Item::Message(Message::Known(known)));
    }

    /// Takes a correction out that follows another one too soon, or that is no longer needed: a
    /// client answers each with all that it has, and what it had sent before may still arrive.
    pub(in crate::machine) fn time_correction(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        replies: &mut PendingReplies,
    ) {
        let now = self.now;
        let is_needless = match (self.subscription(peer, id), self.index(id)) {
            (Some(subscription), Some(index)) => {
                subscription.is_correction_needless(index.verified())
            }
            _ => false,
        };
        let is_spaced = !self.has_bug(InjectedBug::CorrectRefused);
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if is_needless {
            replies.take(PendingReplies::CORRECTION);
            let dropped = subscription.take_dropped();
            self.charge_dropped(peer, id);
            let index = self.index_mut(id);
            if let Some(index) = index.filter(|index| index.is_storing(&dropped)) {
                index.await_ack(peer, &dropped);
            } else {
                replies.add(PendingReplies::KNOWN);
                self.add_acknowledged(peer, id, &dropped);
            }
        } else if let Some(due) = subscription.correction_due(now).filter(|_| is_spaced) {
            replies.take(PendingReplies::CORRECTION);
            subscription.replies.add(PendingReplies::CORRECTION);
            self.timers.set(Timer::Correction, id, due);
        } else {
            self.mark_corrected(peer, id);
        }
    }

    /// A correction is sent.
    fn mark_corrected(&mut self, peer: PeerId, id: CoValueId) {
        let now = self.now;
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.mark_corrected(now);
            self.charge_dropped(peer, id);
        }
    }

    /// Chooses the answer to a client's LOAD of a CoValue that is here.
    ///
    /// If a client claims more than is here, and was acknowledged before, its data was lost here,
    /// and it sends the data again only after a correction. A KNOWN, on the other hand, makes a
    /// client send what was refused before it connected again, so that gets no answer.
    pub(in crate::machine) fn weigh_claim(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        replies: &mut PendingReplies,
    ) {
        match self.fate_of_claim(peer, id) {
            Claim::Had => {}
            Claim::InProgress => {
                replies.take(PendingReplies::ANSWER);
                if let Some(subscription) = self.subscription_mut(peer, id) {
                    subscription.replies.add(PendingReplies::REPLY);
                }
                if let Some(index) = self.index_mut(id) {
                    index.add_claimant(peer);
                }
            }
            Claim::Refused => {
                replies.take(PendingReplies::ANSWER);
            }
            Claim::Lost if self.has_bug(InjectedBug::AnswerLossPlainly) => {}
            Claim::Lost => {
                replies.take(PendingReplies::ANSWER);
                replies.add(PendingReplies::CORRECTION);
                self.mark_corrected(peer, id);
            }
        }
    }

    /// A KNOWN with all our counts.
    pub(in crate::machine) fn known(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        is_correction: bool,
    ) -> Message {
        let Some(index) = self.index(id) else {
            let state = KnownState::empty(id);
            return Message::Known(Known { state, is_correction: false, as_dependency_of: None });
        };
        let mut state = index.durable_state(id);
        if self.has_bug(InjectedBug::AcknowledgeEarly) {
            state.sessions = index.verified().clone();
        }
        let is_deleted = index.is_deleted();
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.mark_told_all();
            if is_deleted {
                // As if we had taken the peer's content of the deleted sessions.
                let theirs = subscription.known().sessions;
                known_state::merge_counts(&mut state.sessions, theirs);
            }
        }
        // No more content of a deleted CoValue is needed.
        let is_correction = is_correction && !is_deleted;
        Message::Known(Known { state, is_correction, as_dependency_of: None })
    }

    /// A KNOWN for the content that a peer has sent. If the CoValue has many sessions, and the peer
    /// got all counts before, it has only those of the sessions that the peer has sent: each peer
    /// merges a KNOWN into what it knows of us.
    pub(in crate::machine) fn acknowledgement(&mut self, peer: PeerId, id: CoValueId) -> Message {
        let acknowledged = self
            .subscription_mut(peer, id)
            .filter(|subscription| subscription.is_told_all())
            .map(Subscription::take_acknowledged)
            .unwrap_or_default();
        let (false, Some(index)) = (acknowledged.is_empty(), self.index(id)) else {
            return self.known(peer, id, false);
        };
        let theirs = self.subscription(peer, id).map(|subscription| subscription.known().sessions);
        let theirs = theirs.filter(|_| index.is_deleted());
        let sessions = acknowledged.into_iter().map(|(session, _)| {
            let deleted = theirs.map_or(0, |theirs| theirs.get(&session));
            let count = index.durable().get(&session).max(deleted);
            (session, count)
        });
        let state = KnownState { id, header: true, sessions: sessions.collect() };
        Message::Known(Known { state, is_correction: false, as_dependency_of: None })
    }

    /// The next acknowledgement to a peer states these sessions.
    pub(in crate::machine) fn add_acknowledged(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        sessions: &SessionCounts,
    ) {
        let has_many =
            self.index(id).is_some_and(|index| index.durable().len() > MAX_STATED_SESSIONS);
        match self.subscription_mut(peer, id) {
            Some(subscription) if has_many => subscription.add_acknowledged(sessions),
            Some(subscription) => subscription.state_all_next(),
            None => {}
        }
    }

    fn fate_of_claim(&self, peer: PeerId, id: CoValueId) -> Claim {
        let Some(subscription) = self.subscription(peer, id) else { return Claim::Had };
        let Some(index) = self.index(id) else { return Claim::Had };
        if !subscription.is_claimed() || !self.is_client(peer) || index.is_deleted() {
            return Claim::Had;
        }
        let theirs = subscription.known().sessions;
        let beyond = known_state::missing(theirs, index.verified());
        if subscription.standing().is_errored() || self.is_holding(peer, id) {
            Claim::Had
        } else if beyond.is_empty() {
            if index.is_storing(theirs) { Claim::InProgress } else { Claim::Had }
        } else if beyond.iter().all(|(session, _)| subscription.has_refused(session)) {
            Claim::Refused
        } else if beyond.iter().all(|(session, _)| index.has_pipeline(session)) {
            Claim::InProgress
        } else {
            Claim::Lost
        }
    }
}

//! The answers that make a client send content, and when they are given.
//!
//! A client sends what it has of a CoValue
//!
//! - after a correction: everything beyond the counts in it;
//! - after a KNOWN to a LOAD, or content that is new to it: everything beyond what it believes us to
//!   have, which is what we have acknowledged on any connection, and what it has sent on this one;
//! - after our LOAD: everything beyond the counts in it.
//!
//! So a client that has been told that we have something sends it again after a correction only.
//! Whatever was lost here is answered with one. Whatever is not taken (refused, over a quota, ignored
//! after bad content, deleted) is never answered with one, and after a LOAD of it on a new connection
//! nothing is said at all. Corrections of one CoValue are spaced, because each may be answered by
//! all of it.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, Known, KnownState, Message};

use crate::action::Item;
use crate::covalue::Entry;
use crate::event::PeerId;
use crate::faults::Fault;
use crate::machine::Machine;
use crate::subscription::{Owes, Standing};

/// What has become of the content that a peer claims in a LOAD to have.
enum Claim {
    /// All of it is here, or a KNOWN does no harm.
    Had,
    /// It is being verified or stored.
    UnderWay,
    /// It was refused.
    Refused,
    /// It was here before, or on its way, and has been lost.
    Lost,
}

impl Machine {
    /// Answers for a CoValue that is not here.
    pub(crate) fn draw_absent(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        owes: Owes,
        items: &mut Vec<Item>,
    ) {
        let now = self.now;
        let is_client = self.is_client(peer);
        // Its content waits for something else.
        let is_holding = self.is_holding(peer, id);
        let answers_plainly = self.has_fault(Fault::AnswerLossPlainly);
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        let claims = is_client && subscription.claimed && subscription.known().header;
        let is_correction = if owes.has(Owes::CORRECTION) {
            true
        } else if !owes.has(Owes::ANSWER) || claims && subscription.standing == Standing::Refused {
            // Any answer would make the client send what is refused.
            return;
        } else {
            let is_lost = claims && !subscription.is_errored() && !is_holding && !answers_plainly;
            if is_lost {
                subscription.mark_corrected(now);
            }
            is_lost
        };
        subscription.told = true;
        let state = KnownState::empty(id);
        let known = Known { state, is_correction, as_dependency_of: None };
        items.push(Item::Message(Message::Known(known)));
    }

    /// Leaves out a correction that follows another one too soon, or that has become needless: a
    /// client answers each with all that it has, and what it had sent before may still arrive.
    pub(crate) fn time_correction(&mut self, peer: PeerId, id: CoValueId, owes: &mut Owes) {
        let now = self.now;
        let index = self.values.get(&id).and_then(Entry::index);
        let is_caught_up = self.subscription(peer, id).is_some_and(|subscription| {
            subscription.is_corrected()
                && index.is_some_and(|index| subscription.is_caught_up(index.verified()))
        });
        let is_spaced = !self.has_fault(Fault::CorrectRefused);
        let Some(subscription) = self.subscription_mut(peer, id) else { return };
        if is_caught_up {
            owes.take(Owes::CORRECTION);
            let dropped = subscription.take_dropped();
            let index = self.values.get_mut(&id).and_then(Entry::index_mut);
            match index.filter(|index| index.is_storing(&dropped)) {
                Some(index) => index.await_ack(peer, &dropped),
                None => owes.add(Owes::KNOWN),
            }
        } else if let Some(due) = subscription.correction_due(now).filter(|_| is_spaced) {
            owes.take(Owes::CORRECTION);
            subscription.owes.add(Owes::CORRECTION);
            self.timers.insert((due, id));
        } else {
            subscription.mark_corrected(now);
        }
    }

    /// Lets peers have the corrections that had to wait.
    pub(crate) fn owe_corrections(&mut self, id: CoValueId) {
        for number in 0..self.values.subscribers(id).len() {
            let Some(&peer) = self.values.subscribers(id).get(number) else { return };
            if self.subscription(peer, id).is_some_and(|state| state.owes.has(Owes::CORRECTION)) {
                self.owe(peer, id);
            }
        }
    }

    /// Chooses the answer to a client's LOAD of a CoValue that is here.
    ///
    /// A client that claims more than we have sends it again only for a correction, if it has been
    /// acknowledged before: the data was lost here. A KNOWN, on the other hand, makes a client send
    /// what was refused before it connected again. So that gets no answer.
    pub(crate) fn weigh_claim(&mut self, peer: PeerId, id: CoValueId, owes: &mut Owes) {
        match self.fate_of_claim(peer, id) {
            Claim::Had => {}
            Claim::UnderWay => {
                owes.take(Owes::ANSWER);
                if let Some(subscription) = self.subscription_mut(peer, id) {
                    subscription.owes.add(Owes::REPLY);
                }
                if let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut)
                    && !index.claimants.contains(&peer)
                {
                    index.claimants.push(peer);
                }
            }
            Claim::Refused => {
                owes.take(Owes::ANSWER);
            }
            Claim::Lost if self.has_fault(Fault::AnswerLossPlainly) => {}
            Claim::Lost => {
                owes.take(Owes::ANSWER);
                owes.add(Owes::CORRECTION);
                let now = self.now;
                if let Some(subscription) = self.subscription_mut(peer, id) {
                    subscription.mark_corrected(now);
                }
            }
        }
    }

    /// What has become of the content that a peer claims in a LOAD to have.
    fn fate_of_claim(&self, peer: PeerId, id: CoValueId) -> Claim {
        let Some(subscription) = self.subscription(peer, id) else { return Claim::Had };
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return Claim::Had };
        if !subscription.claimed || !self.is_client(peer) || index.deleted {
            return Claim::Had;
        }
        let theirs = subscription.known().sessions;
        let beyond = known_state::missing(theirs, index.verified());
        if subscription.is_errored() || self.is_holding(peer, id) {
            Claim::Had
        } else if beyond.is_empty() {
            if index.is_storing(theirs) { Claim::UnderWay } else { Claim::Had }
        } else if beyond.iter().all(|(session, _)| subscription.has_refused(session)) {
            Claim::Refused
        } else if beyond.iter().all(|(session, _)| index.pipelines.contains_key(session)) {
            Claim::UnderWay
        } else {
            Claim::Lost
        }
    }

    /// Something of a CoValue has been verified or stored: looks again at the claims that waited for it.
    pub(crate) fn owe_claimants(&mut self, id: CoValueId) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        for peer in std::mem::take(&mut index.claimants) {
            self.owe(peer, id);
        }
    }
}

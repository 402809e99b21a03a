//! A peer's part in one CoValue: what the peer has of it, and what it still gets.
//!
//! There are very many of these, so they are small: state that few of them have is in a box.

mod peer_counts;
mod rare;
mod replies;
mod request;
mod standing;

use std::mem;
use std::num::NonZeroU32;

use downbeat_core::known_state;
use downbeat_protocol::{KnownState, SessionCounts, SessionId, ShortHash};

use crate::event::Millis;

pub(crate) use peer_counts::{Lacking, PeerCounts, State};
use rare::Rare;
pub(crate) use replies::PendingReplies;
use request::Request;
pub(crate) use standing::Standing;

/// What a peer has been told of what we have, on this connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    /// Content, or that the CoValue is not here, or a LOAD.
    Some,
    /// All counts, in a KNOWN.
    All,
}

/// A peer's part in one CoValue.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(crate) struct Subscription {
    counts: PeerCounts,
    rare: Option<Box<Rare>>,
    /// One more than the number of the CoValue's dependencies when they were last sent before it.
    dependencies_sent: Option<NonZeroU32>,
    request: Request,
    /// The messages that the peer gets besides content.
    pub replies: PendingReplies,
    standing: Standing,
    /// Whether the peer gets content: since it loaded, acknowledged or sent some.
    subscribed: bool,
    /// Whether the CoValue is in the peer's queue.
    queued: bool,
    told: Told,
    /// Whether the peer's LOAD waits until those before it can be answered.
    in_turn: bool,
    /// Whether a sequence of pieces is in progress whose end has been announced.
    streaming: bool,
    /// Whether the peer waits until it is known if the CoValue is here.
    waits: bool,
}

/// What the peer has.
impl Subscription {
    /// Whether the peer will have the header when everything sent has arrived.
    pub(crate) fn expects_header(&self) -> bool {
        self.counts.expects_header()
    }

    /// See [`PeerCounts::lacks`].
    pub(crate) fn lacks(&self, ours: &SessionCounts) -> bool {
        !self.counts.expects_header() || self.counts.lacks(ours)
    }

    /// See [`PeerCounts::lacking`].
    pub(crate) fn lacking(&self, ours: &SessionCounts) -> Lacking {
        self.counts.lacking(ours)
    }

    /// What the peer has stated.
    pub(crate) fn known(&self) -> State<'_> {
        self.counts.known()
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.counts.epoch()
    }

    /// Whether the known counts are claimed, and not confirmed by a KNOWN since.
    pub(crate) fn is_claimed(&self) -> bool {
        self.counts.is_claimed()
    }

    /// See [`PeerCounts::claim`]: what was sent and corrected before no longer matters.
    /// `is_older` is whether content of the peer is in progress.
    pub(crate) fn claim(&mut self, state: KnownState, is_older: bool) {
        self.counts.claim(state);
        self.streaming = false;
        if let Some(rare) = &mut self.rare {
            rare.corrections = rare::Corrections::default();
        }
        self.set_older(is_older);
    }

    /// See [`PeerCounts::confirm`].
    pub(crate) fn confirm(&mut self) {
        self.counts.confirm();
    }

    /// See [`PeerCounts::confirm_state`].
    pub(crate) fn confirm_state(&mut self, state: KnownState) {
        if self.counts.confirm_state(state) {
            self.streaming = false;
        }
    }

    /// See [`PeerCounts::replace`].
    pub(crate) fn replace(&mut self, state: KnownState) {
        self.counts.replace(state);
        self.streaming = false;
    }

    /// The content that the peer has sent shows that it has this. Ignored if the peer has stated
    /// its counts later than it sent the content. `ours` are our counts with that content.
    pub(crate) fn merge_sent(
        &mut self,
        header: bool,
        sessions: &SessionCounts,
        ours: Option<&SessionCounts>,
    ) {
        if !self.is_older() {
            self.counts.merge_sent(header, sessions, ours);
        }
    }

    /// The peer has forked a session after so many transactions: it has no more of it than that.
    /// Returns whether it is sent the rest. See [`Rare::fork`].
    pub(crate) fn mark_forked(&mut self, session: &SessionId, after: u64) -> bool {
        let is_sent_rest = self.rare_mut().fork(session.clone(), after);
        if is_sent_rest {
            self.counts.lower(session, after);
            self.streaming = false;
        }
        is_sent_rest
    }

    /// After how many transactions the peer has forked a session.
    pub(crate) fn forked(&self, session: &SessionId) -> Option<u64> {
        self.rare.as_ref()?.forked(session)
    }

    /// New content of a session is valid, so that the peer has the same log as we.
    pub(crate) fn end_fork(&mut self, session: &SessionId) {
        if let Some(rare) = &mut self.rare {
            rare.end_fork(session);
        }
    }

    /// The peer lacks nothing of ours. See [`PeerCounts::expect_all`].
    pub(crate) fn mark_complete(&mut self, ours: &SessionCounts) {
        self.counts.expect_all(ours);
    }

    /// The peer is being sent what it lacks of ours.
    pub(crate) fn mark_sent(&mut self, ours: &SessionCounts) {
        self.counts.expect_all(ours);
        if self.told == Told::Nothing {
            self.told = Told::Some;
        }
        self.streaming = false;
    }

    /// Only this much was sent. `started` is whether a sequence of pieces is in progress.
    pub(crate) fn mark_reached(&mut self, header: bool, reached: &SessionCounts, started: bool) {
        self.counts.mark_reached(header, reached);
        self.streaming = started;
    }

    /// Takes over what is known of a peer from its last connection.
    pub(crate) fn resume(&mut self, before: &Self) {
        self.counts.resume(&before.counts);
        self.told = Told::Nothing;
    }

    /// See [`PeerCounts::agree`].
    pub(crate) fn agree(&mut self, ours: &SessionCounts) -> bool {
        self.counts.agree(ours)
    }

    /// See [`PeerCounts::agrees`].
    pub(crate) fn agrees(&self) -> bool {
        self.counts.agrees()
    }

    /// See [`PeerCounts::recall`].
    pub(crate) fn recall(&mut self, stored: Option<&SessionCounts>, ours: Option<&SessionCounts>) {
        self.counts.recall(stored, ours);
    }

    /// The peer states its counts, `is_older` while its content is in progress.
    pub(crate) fn set_older(&mut self, is_older: bool) {
        if is_older != self.is_older() {
            self.rare_mut().is_older = is_older;
        }
    }

    fn is_older(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_older)
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// Refused content.
impl Subscription {
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// The CoValue is refused as a whole.
    pub(crate) fn refuse(&mut self) {
        self.standing = self.standing.refused();
    }

    /// The peer has sent bad content.
    pub(crate) fn mark_errored(&mut self) {
        self.standing = Standing::Errored;
    }

    /// The peer has sent a header that is accepted.
    pub(crate) fn accept_header(&mut self) {
        self.standing = self.standing.with_header();
    }

    /// Content was ignored. Returns whether that has to be reported.
    pub(crate) fn ignore_content(&mut self) -> bool {
        let (standing, is_first) = self.standing.ignored();
        self.standing = standing;
        is_first
    }

    /// Content of a session was refused.
    pub(crate) fn refuse_session(&mut self, session: SessionId) {
        if !self.standing.is_good() || self.has_refused(&session) {
            return;
        }
        if !self.rare_mut().refuse(session) {
            self.refuse();
        }
    }

    /// Whether content of a session was refused, and none of it was accepted since.
    pub(crate) fn has_refused(&self, session: &SessionId) -> bool {
        self.standing.is_refused()
            || self.rare.as_ref().is_some_and(|rare| rare.has_refused(session))
    }

    /// Content of a session is accepted.
    pub(crate) fn accept_session(&mut self, session: &SessionId) {
        if let Some(rare) = &mut self.rare {
            rare.accept(session);
        }
    }
}

/// Corrections and comparisons.
impl Subscription {
    /// The peer gets a correction, because its content up to these counts was dropped: it does not
    /// follow what is here.
    pub(crate) fn add_correction(&mut self, dropped: &SessionCounts) {
        self.replies.add(PendingReplies::CORRECTION);
        self.rare_mut().corrections.drop_content(dropped);
    }

    /// Whether the peer was corrected, and its dropped content has arrived since.
    pub(crate) fn is_correction_needless(&self, ours: &SessionCounts) -> bool {
        self.rare.as_ref().is_some_and(|rare| {
            rare.corrections.is_corrected() && rare.corrections.is_caught_up(ours)
        })
    }

    /// The counts of the content that was dropped, and has arrived since.
    pub(crate) fn take_dropped(&mut self) -> SessionCounts {
        self.rare.as_mut().map(|rare| rare.corrections.take_dropped()).unwrap_or_default()
    }

    /// The number of sessions of the content that was dropped.
    pub(crate) fn dropped_sessions(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.corrections.dropped_sessions())
    }

    /// When the next correction may be sent, if that is not now.
    pub(crate) fn correction_due(&self, now: Millis) -> Option<Millis> {
        self.rare.as_ref()?.corrections.due(now)
    }

    /// A correction is sent.
    pub(crate) fn mark_corrected(&mut self, now: Millis) {
        self.rare_mut().corrections.send(now);
    }

    /// The peer gets a LOAD if its counts have another hash.
    pub(crate) fn add_comparison(&mut self, hash: ShortHash) {
        self.replies.add(PendingReplies::COMPARISON);
        self.rare_mut().comparison = Some(hash);
    }

    /// The hash to compare with, if a comparison is pending.
    pub(crate) fn take_comparison(&mut self) -> Option<ShortHash> {
        if !self.replies.take(PendingReplies::COMPARISON) {
            return None;
        }
        let hash = self.rare.as_mut()?.comparison.take();
        self.rare.take_if(|rare| **rare == Rare::default());
        hash
    }
}

/// Requests and turns.
impl Subscription {
    /// The peer gets what is new of the CoValue from now on.
    pub(crate) fn subscribe(&mut self) {
        self.subscribed = true;
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// The peer gets a LOAD with its next turn.
    pub(crate) fn ask(&mut self, now: Millis) {
        self.replies.add(PendingReplies::LOAD);
        self.request = Request::sent(now);
    }

    /// The peer gets a LOAD when it has room for one, or an answer that does the same.
    pub(crate) fn mark_asked(&mut self) {
        self.request = self.request.wanted();
    }

    /// The peer can be asked again: it has answered, or its answer was lost.
    pub(crate) fn forget_request(&mut self) {
        self.request = Request::None;
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.request.is_made()
    }

    /// Whether a LOAD was sent so recently that no other one is needed.
    pub(crate) fn is_asked_recently(&self, now: Millis) -> bool {
        self.request.is_recent(now)
    }

    /// Whether the subscription only served a comparison that is over: nothing is known of the
    /// peer, and nothing is sent to it.
    pub(crate) fn is_blank(&self) -> bool {
        let is_idle = !(self.subscribed || self.queued || self.in_turn || self.waits);
        is_idle
            && self.told == Told::Nothing
            && !self.is_asked()
            && self.replies.is_empty()
            && self.rare.is_none()
            && self.standing.is_good()
            && !self.counts.known().header
    }

    /// Whether the peer ever got a message that states what we have.
    pub(crate) fn is_told(&self) -> bool {
        self.told != Told::Nothing
    }

    /// Whether the peer got all our counts, and the next KNOWN need not state them again.
    pub(crate) fn is_told_all(&self) -> bool {
        self.told == Told::All
    }

    /// The peer is sent all our counts in a KNOWN.
    pub(crate) fn mark_told_all(&mut self) {
        self.told = Told::All;
        self.take_acknowledged();
    }

    /// The next KNOWN states all our counts.
    pub(crate) fn state_all_next(&mut self) {
        if self.told == Told::All {
            self.told = Told::Some;
        }
    }

    /// The peer is sent a LOAD, or that the CoValue is not here. The next KNOWN states all our
    /// counts, because the peer may take it for all that we have.
    pub(crate) fn mark_told_some(&mut self) {
        self.told = Told::Some;
    }

    /// The next acknowledgement states these sessions.
    pub(crate) fn add_acknowledged(&mut self, sessions: &SessionCounts) {
        known_state::merge_counts(&mut self.rare_mut().acknowledged, sessions);
    }

    /// The sessions that the next acknowledgement states.
    pub(crate) fn take_acknowledged(&mut self) -> SessionCounts {
        self.rare.as_mut().map(|rare| mem::take(&mut rare.acknowledged)).unwrap_or_default()
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.streaming
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.queued
    }

    /// Returns whether the CoValue was not in the peer's queue.
    pub(crate) fn enter_queue(&mut self) -> bool {
        !mem::replace(&mut self.queued, true)
    }

    pub(crate) fn leave_queue(&mut self) {
        self.queued = false;
    }

    /// Whether the peer's LOAD waits until those before it can be answered.
    pub(crate) fn is_in_turn(&self) -> bool {
        self.in_turn
    }

    /// Returns whether it was so before.
    pub(crate) fn set_in_turn(&mut self, in_turn: bool) -> bool {
        mem::replace(&mut self.in_turn, in_turn)
    }

    /// The peer begins to wait until it is known if the CoValue is here. Returns whether it did
    /// not wait before.
    pub(crate) fn begin_waiting(&mut self) -> bool {
        !mem::replace(&mut self.waits, true)
    }

    pub(crate) fn end_waiting(&mut self) {
        self.waits = false;
    }

    /// The number of the CoValue's dependencies when they were last sent before it.
    pub(crate) fn dependencies_sent(&self) -> Option<usize> {
        self.dependencies_sent.map(|sent| sent.get() as usize - 1)
    }

    /// Forgets that the dependencies were sent: the turn that was to send them ended before.
    pub(crate) fn unmark_dependencies_sent(&mut self) {
        self.dependencies_sent = None;
    }

    /// All dependencies of the CoValue are sent before it.
    pub(crate) fn mark_dependencies_sent(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.dependencies_sent = NonZeroU32::new(count.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of a forgotten CoValue follows from this size.
    #[test]
    fn a_subscription_is_small() {
        assert_eq!(size_of::<Subscription>(), 48);
    }
}

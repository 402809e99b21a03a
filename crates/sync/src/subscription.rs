//! A peer's part in one CoValue: what the peer has of it, and what it is owed.
//!
//! There are very many of these, so they are small: what few of them have is in a box, and counts
//! are shared with those of the CoValue and of other peers wherever they are the same.

use std::num::{NonZeroU16, NonZeroU32};

use downbeat_core::known_state;
use downbeat_protocol::{KnownState, SessionCounts, SessionId, ShortHash};

use crate::event::Millis;

/// How many minutes an upstream that has been asked for a CoValue is not asked again. Longer than a
/// LOAD takes to go round any ring of nodes, so that one that comes round ends there; and not for
/// ever, for an upstream may have gained something in a way that it does not tell of.
const ASKED_LATELY: u16 = 5;

/// A peer's part in one CoValue.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(crate) struct Subscription {
    /// What the peer has said that it has.
    known: SessionCounts,
    known_header: bool,
    /// The same, with what has been sent but not acknowledged.
    expected: SessionCounts,
    expected_header: bool,
    /// Whether the counts are not kept, because they were ours when the CoValue was forgotten.
    agrees: bool,
    /// Counts how often `known` was replaced, so that reports on turns from before are not taken
    /// for reports on turns from after.
    pub epoch: u32,
    /// Whether the peer is to be sent content: since it loaded, acknowledged or sent some.
    pub subscribed: bool,
    /// What the peer is owed besides content.
    pub owes: Owes,
    /// Whether the peer has been sent a LOAD, or is about to be. A client that has answered can be
    /// asked again.
    pub asked: bool,
    /// The minute in which the last LOAD was owed, of those that fit: after 45 days they begin
    /// anew.
    asked_in: Option<NonZeroU16>,
    /// Whether the CoValue stands in the peer's queue.
    pub queued: bool,
    /// Whether `known` is what the peer has claimed in a LOAD, or had before it was away, and not
    /// said in a KNOWN since.
    pub claimed: bool,
    /// Whether the peer has ever been told what we have.
    pub told: bool,
    /// Whether content of this CoValue is taken from the peer.
    pub standing: Standing,
    /// Whether the peer's LOAD waits until those before it can be answered (`Peer::loading`).
    pub in_turn: bool,
    /// Whether a sequence of pieces is under way whose end has been announced.
    pub streaming: bool,
    /// One more than the number of the CoValue's dependencies when they were last sent ahead of it.
    dependencies_sent: Option<NonZeroU32>,
    /// Whether the peer waits to learn whether the CoValue is there (`Entry::waiting`).
    pub waits: bool,
    rare: Option<Box<Rare>>,
}

/// What few subscriptions have.
#[derive(Debug, Default, PartialEq)]
struct Rare {
    /// A session that the peer has forked, and after how many transactions: what it writes there
    /// from then on cannot be verified, and is no forgery.
    forked: Option<(SessionId, u64)>,
    /// Sessions of which content was refused.
    refused: Vec<SessionId>,
    /// The last correction, until the peer loads the CoValue again.
    corrected: Option<Corrected>,
    /// The counts up to which content of the peer was dropped, because it did not follow what is here.
    dropped: SessionCounts,
    /// The hash that the peer has sent in a reconcile message, until it has been compared.
    comparison: Option<ShortHash>,
    /// Whether the peer has said in a LOAD what it has while content of it was under way here, so
    /// that this content does not tell what it has.
    is_older: bool,
}

/// Whether content of a CoValue is taken from a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is.
    #[default]
    Good,
    /// The CoValue was refused as a whole. The peer may try again with the header.
    Refused,
    /// It is ignored, after bad content.
    Errored,
    /// The same, and the operator knows that more has been ignored.
    Ignored,
}

/// A correction that the peer has been sent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Corrected {
    at: Millis,
    /// How many corrections there were.
    count: u32,
}

/// Sessions of one peer and CoValue that are remembered as refused. A client has one or two; for
/// a peer with more, the CoValue counts as refused.
const MAX_REFUSED_SESSIONS: usize = 16;

/// The time after the first correction within which there is no second one. Each correction makes a
/// client send all that it has, and pieces that were under way before it arrives have gaps as well.
const CORRECTION_INTERVAL: Millis = 1_000;

/// How often the interval doubles: up to 64 s.
const MAX_DOUBLINGS: u32 = 6;

/// A known state without the id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts<'a> {
    pub header: bool,
    pub sessions: &'a SessionCounts,
}

/// The messages that a peer is owed of one CoValue: a set. Each is made when it is drawn, from the
/// state of that moment, so that several of one kind become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owes(u8);

impl Owes {
    /// An answer to a LOAD, if no content is the answer.
    pub(crate) const REPLY: Self = Self(1);
    /// What we have, if the peer lacks nothing of it and was never told.
    pub(crate) const FIRST: Self = Self(1 << 1);
    /// Word that nobody has the CoValue.
    pub(crate) const NOT_FOUND: Self = Self(1 << 2);
    /// An acknowledgement.
    pub(crate) const KNOWN: Self = Self(1 << 3);
    /// A correction.
    pub(crate) const CORRECTION: Self = Self(1 << 4);
    /// A LOAD, to get a dependency from the peer that needs it.
    pub(crate) const LOAD: Self = Self(1 << 5);
    /// A comparison with a hash that the peer has sent in a reconcile message.
    pub(crate) const COMPARISON: Self = Self(1 << 6);
    /// What waits for storage's answer, but not for those of upstreams.
    pub(crate) const BEFORE_UPSTREAMS: Self = Self(Self::LOAD.0 | Self::CORRECTION.0);
    /// Any answer to a LOAD but content.
    pub(crate) const ANSWER: Self = Self(Self::REPLY.0 | Self::NOT_FOUND.0);

    /// Whether any of these are owed.
    pub(crate) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    pub(crate) fn add(&mut self, what: Self) {
        self.0 |= what.0;
    }

    /// Takes these out, and tells whether any of them were owed.
    pub(crate) fn take(&mut self, what: Self) -> bool {
        let had = self.has(what);
        self.0 &= !what.0;
        had
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The number of minutes that are told apart.
const MINUTES: u16 = u16::MAX;

/// The number of a minute, from 1 to [`MINUTES`].
fn minute(now: Millis) -> NonZeroU16 {
    const MILLIS: Millis = 60_000;
    let minute = u16::try_from(now / MILLIS % Millis::from(MINUTES)).unwrap_or_default();
    NonZeroU16::MIN.saturating_add(minute)
}

/// Minutes from one to another.
fn minutes_since(asked: NonZeroU16, now: NonZeroU16) -> u16 {
    match now.get().checked_sub(asked.get()) {
        Some(minutes) => minutes,
        None => MINUTES - asked.get() + now.get(),
    }
}

impl Subscription {
    /// What the peer will have once everything sent has arrived.
    pub(crate) fn expected(&self) -> Counts<'_> {
        Counts { header: self.expected_header, sessions: &self.expected }
    }

    /// What the peer has said that it has.
    pub(crate) fn known(&self) -> Counts<'_> {
        Counts { header: self.known_header, sessions: &self.known }
    }

    /// Whether the peer's content of this CoValue is ignored, after bad content.
    pub(crate) fn is_errored(&self) -> bool {
        matches!(self.standing, Standing::Errored | Standing::Ignored)
    }

    /// Content of a session was refused.
    pub(crate) fn refuse_session(&mut self, session: SessionId) {
        if self.standing != Standing::Good || self.has_refused(&session) {
            return;
        }
        let refused = &mut self.rare.get_or_insert_default().refused;
        if refused.len() < MAX_REFUSED_SESSIONS {
            refused.push(session);
        } else {
            self.standing = Standing::Refused;
        }
    }

    /// Whether content of a session was refused, and nothing of it was taken since.
    pub(crate) fn has_refused(&self, session: &SessionId) -> bool {
        self.standing == Standing::Refused
            || self.rare.as_ref().is_some_and(|rare| rare.refused.contains(session))
    }

    /// Content of a session is taken.
    pub(crate) fn take_session(&mut self, session: &SessionId) {
        if let Some(rare) = &mut self.rare {
            rare.refused.retain(|other| other != session);
        }
    }

    /// Content of the peer up to these counts was dropped, because it does not follow what is here.
    pub(crate) fn owe_correction(&mut self, dropped: &SessionCounts) {
        self.owes.add(Owes::CORRECTION);
        known_state::merge_counts(&mut self.rare.get_or_insert_default().dropped, dropped);
    }

    /// Whether what was dropped of the peer's content has come since.
    pub(crate) fn is_caught_up(&self, ours: &SessionCounts) -> bool {
        self.rare.as_ref().is_none_or(|rare| known_state::is_subset(&rare.dropped, ours))
    }

    /// The counts up to which content of the peer was dropped, which has come since.
    pub(crate) fn take_dropped(&mut self) -> SessionCounts {
        self.rare.as_mut().map(|rare| std::mem::take(&mut rare.dropped)).unwrap_or_default()
    }

    /// When the next correction may be sent, if that is not now.
    pub(crate) fn correction_due(&self, now: Millis) -> Option<Millis> {
        let Corrected { at, count } = self.rare.as_ref()?.corrected?;
        let wait = CORRECTION_INTERVAL << (count - 1).min(MAX_DOUBLINGS);
        Some(at + wait).filter(|due| now < *due)
    }

    /// Whether the peer has been corrected since its last LOAD.
    pub(crate) fn is_corrected(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.corrected.is_some())
    }

    /// A correction is on its way.
    pub(crate) fn mark_corrected(&mut self, now: Millis) {
        let rare = self.rare.get_or_insert_default();
        let count = rare.corrected.map_or(0, |corrected| corrected.count).saturating_add(1);
        rare.corrected = Some(Corrected { at: now, count });
        rare.dropped = SessionCounts::new();
    }

    /// The peer says in a LOAD what it has: what was sent and corrected before is settled.
    pub(crate) fn forget_corrections(&mut self) {
        if let Some(rare) = &mut self.rare {
            (rare.corrected, rare.dropped) = (None, SessionCounts::new());
        }
    }

    /// The peer says that this, and nothing else, is what it has.
    pub(crate) fn replace(&mut self, state: KnownState) {
        self.known_header = state.header;
        self.known = state.sessions;
        self.expect_known();
        self.agrees = false;
        self.streaming = false;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Whether content of the peer may be older than what it has said that it has.
    pub(crate) fn is_older(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_older)
    }

    pub(crate) fn set_older(&mut self, is_older: bool) {
        if is_older != self.is_older() {
            self.rare.get_or_insert_default().is_older = is_older;
        }
    }

    /// The peer says in a KNOWN that it has this.
    ///
    /// That adds to what it has said before, but for one case: a client whose download was cut
    /// claims in its next LOAD the counts that it was promised (`expectContentUntil`), while its
    /// KNOWN always tells what it really has.
    pub(crate) fn hear(&mut self, state: KnownState) {
        if std::mem::take(&mut self.claimed)
            && (self.known_header && !state.header
                || !known_state::is_subset(&self.known, &state.sessions))
        {
            self.replace(state);
        } else {
            // What was agreed on is not at hand; what it says comes to as much.
            self.agrees = false;
            self.merge(state.header, &state.sessions);
        }
    }

    /// The peer has this as well.
    pub(crate) fn merge(&mut self, header: bool, sessions: &SessionCounts) {
        self.known_header |= header;
        self.expected_header |= header;
        if *sessions == self.expected {
            // It acknowledges all that was sent.
            self.known.clone_from(&self.expected);
            return;
        }
        let is_all_known = self.known.is_shared_with(&self.expected);
        known_state::merge_counts(&mut self.known, sessions);
        if is_all_known {
            self.expected.clone_from(&self.known);
            return;
        }
        known_state::merge_counts(&mut self.expected, sessions);
        if self.known == self.expected {
            self.known.clone_from(&self.expected);
        }
    }

    /// Keeps no counts of its own where they are the same as ours.
    pub(crate) fn share(&mut self, ours: &SessionCounts) {
        for counts in [&mut self.known, &mut self.expected] {
            if counts == ours {
                counts.clone_from(ours);
            }
        }
    }

    /// The peer has only this much of a session.
    pub(crate) fn lower(&mut self, session: &SessionId, count: u64) {
        for counts in [&mut self.known, &mut self.expected] {
            counts.set(session, count.min(counts.get(session)));
        }
    }

    /// This, of all that we have, is on its way to the peer.
    pub(crate) fn mark_sent(&mut self, sessions: &SessionCounts, ours: &SessionCounts) {
        self.expected_header = true;
        if known_state::is_subset(&self.expected, ours) {
            self.expected.clone_from(ours);
        } else {
            known_state::merge_counts(&mut self.expected, sessions);
        }
    }

    /// Of what was on its way, only this much has been sent.
    pub(crate) fn mark_reached(&mut self, header: bool, reached: &[(SessionId, u64)]) {
        self.expected_header = self.known_header || header;
        for (session, count) in reached {
            self.expected.set(session, (*count).max(self.known.get(session)));
        }
    }

    /// Takes up what was known of a peer before it was away. What it was sent and has not
    /// acknowledged may have been lost.
    pub(crate) fn resume(&mut self, before: &Self) {
        self.known_header = before.known_header;
        self.known.clone_from(&before.known);
        self.expect_known();
        self.told = false;
        // It may have lost data as well: its first KNOWN tells what it really has.
        self.claimed = true;
    }

    /// Nothing is on its way.
    fn expect_known(&mut self) {
        self.expected_header = self.known_header;
        self.expected.clone_from(&self.known);
    }

    /// The CoValue is about to be forgotten. If the peer has exactly what we have, its counts are
    /// forgotten as well, and it is said to agree.
    pub(crate) fn agree(&mut self, ours: &SessionCounts) -> bool {
        let is_same = |counts: Counts<'_>| counts.header && counts.sessions == ours;
        self.agrees = is_same(self.known()) && is_same(self.expected());
        if self.agrees {
            (self.known, self.expected) = (SessionCounts::new(), SessionCounts::new());
        }
        self.agrees
    }

    /// Whether the counts are not kept, because they were ours when the CoValue was forgotten.
    pub(crate) fn agrees(&self) -> bool {
        self.agrees
    }

    /// The CoValue has come back; if it is what a peer that agreed has, that is `stored`.
    pub(crate) fn recall(&mut self, stored: Option<&SessionCounts>) {
        if std::mem::take(&mut self.agrees) {
            self.known = stored.cloned().unwrap_or_default();
            self.known_header = stored.is_some();
            self.expect_known();
        }
    }

    /// The peer is to be sent a LOAD.
    pub(crate) fn ask(&mut self, now: Millis) {
        self.owes.add(Owes::LOAD);
        self.asked = true;
        self.asked_in = Some(minute(now));
    }

    /// Whether the peer has been asked so lately that it need not be asked again: it is subscribed
    /// to, and sends what is new.
    pub(crate) fn is_asked_lately(&self, now: Millis) -> bool {
        let is_late = |asked| minutes_since(asked, minute(now)) < ASKED_LATELY;
        self.asked && self.asked_in.is_some_and(is_late)
    }

    /// What the peer has been asked for has come, and was lost.
    pub(crate) fn ask_again(&mut self) {
        (self.asked, self.asked_in) = (false, None);
    }

    /// The number of the CoValue's dependencies when they were last sent ahead of it.
    pub(crate) fn dependencies_sent(&self) -> Option<usize> {
        self.dependencies_sent.map(|sent| sent.get() as usize - 1)
    }

    /// What the CoValue depends on is sent ahead of it.
    pub(crate) fn mark_dependencies_sent(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.dependencies_sent = NonZeroU32::new(count.saturating_add(1));
    }

    /// The session that the peer has forked, and where.
    pub(crate) fn forked(&self) -> Option<&(SessionId, u64)> {
        self.rare.as_ref()?.forked.as_ref()
    }

    /// The peer has forked a session after so many transactions.
    pub(crate) fn mark_forked(&mut self, session: SessionId, after: u64) {
        self.rare.get_or_insert_default().forked = Some((session, after));
    }

    /// The peer is owed a comparison with a hash of its counts.
    pub(crate) fn owe_comparison(&mut self, hash: ShortHash) {
        self.owes.add(Owes::COMPARISON);
        self.rare.get_or_insert_default().comparison = Some(hash);
    }

    /// The hash to compare with, if that is owed.
    pub(crate) fn take_comparison(&mut self) -> Option<ShortHash> {
        if !self.owes.take(Owes::COMPARISON) {
            return None;
        }
        let hash = self.rare.as_mut()?.comparison.take();
        self.rare.take_if(|rare| **rare == Rare::default());
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure that the memory of a forgotten CoValue follows from.
    #[test]
    fn a_subscription_is_small() {
        assert_eq!(size_of::<Subscription>(), 48);
    }

    fn counts(count: u64) -> SessionCounts {
        let session = SessionId::parse("co_z1_session_z1").unwrap();
        SessionCounts::from_iter([(session, count)])
    }

    #[test]
    fn what_is_acknowledged_is_kept_once() {
        let ours = counts(3);
        let mut subscription = Subscription::default();
        subscription.mark_sent(&ours, &ours);
        subscription.merge(true, &counts(3));
        assert!(subscription.known().sessions.is_shared_with(&ours));
        assert!(subscription.expected().sessions.is_shared_with(&ours));
    }

    #[test]
    fn who_has_what_we_have_agrees_and_has_it_again_when_it_is_back() {
        let mut subscription = Subscription::default();
        subscription.mark_sent(&counts(3), &counts(3));
        assert!(!subscription.agree(&counts(3)), "it has not acknowledged what was sent");
        subscription.merge(true, &counts(3));
        assert!(!subscription.agree(&counts(4)), "it lacks something");
        assert!(subscription.agree(&counts(3)));
        assert!(subscription.known().header && subscription.known().sessions.is_empty());
        subscription.recall(Some(&counts(3)));
        assert_eq!(subscription.known().sessions, &counts(3));
    }

    #[test]
    fn who_agreed_on_what_is_no_longer_there_is_taken_to_have_nothing() {
        let mut subscription = Subscription::default();
        subscription.merge(true, &counts(3));
        assert!(subscription.agree(&counts(3)));
        subscription.recall(None);
        assert!(!subscription.known().header && subscription.known().sessions.is_empty());
    }
}

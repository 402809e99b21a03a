//! The counts that a peer has of a CoValue, and those that it will have.
//!
//! There are very many of these, so counts are shared with those of the CoValue and of other
//! peers wherever they are the same.

use std::mem;

use downbeat_core::known_state;
use downbeat_protocol::{KnownState, SessionCounts, SessionId};

/// A known state without the id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State<'a> {
    pub header: bool,
    pub sessions: &'a SessionCounts,
}

/// The counts of one peer and CoValue.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(crate) struct PeerCounts {
    /// The counts that the peer has stated.
    known: SessionCounts,
    /// The same, with the content that was sent and is not acknowledged.
    expected: SessionCounts,
    /// How often `known` was replaced. A report on a turn from before is then recognised.
    epoch: u32,
    known_header: bool,
    expected_header: bool,
    /// Whether the counts are not kept, because they were ours when the CoValue was forgotten.
    agrees: bool,
    /// Whether `known` was claimed in a LOAD, or is from an earlier connection, and not confirmed
    /// by a KNOWN since.
    claimed: bool,
}

impl PeerCounts {
    /// What the peer will have when everything sent has arrived.
    pub(crate) fn expected(&self) -> State<'_> {
        State { header: self.expected_header, sessions: &self.expected }
    }

    /// What the peer has stated.
    pub(crate) fn known(&self) -> State<'_> {
        State { header: self.known_header, sessions: &self.known }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the known counts are claimed, and not confirmed by a KNOWN since.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// The peer has stated in a KNOWN that it has what it claimed.
    pub(crate) fn confirm(&mut self) {
        self.claimed = false;
    }

    /// The peer claims in a LOAD that it has this, and nothing else.
    pub(crate) fn claim(&mut self, state: KnownState) {
        self.replace(state);
        self.claimed = true;
    }

    /// The peer has this, and nothing else.
    pub(crate) fn replace(&mut self, state: KnownState) {
        self.known_header = state.header;
        self.known = state.sessions;
        self.expect_known();
        self.agrees = false;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The peer states in a KNOWN that it has this. Returns whether that replaced its counts.
    ///
    /// It adds to the earlier counts, with one exception: a client whose download was interrupted
    /// claims in its next LOAD the counts that it was promised (`expectContentUntil`), while its
    /// KNOWN always states what it really has.
    pub(crate) fn confirm_state(&mut self, state: KnownState) -> bool {
        let is_less = self.known_header && !state.header
            || !known_state::is_subset(&self.known, &state.sessions);
        if mem::take(&mut self.claimed) && is_less {
            self.replace(state);
            return true;
        }
        // The agreed counts are not in memory, but the stated ones are at least as high.
        self.agrees = false;
        self.merge(state.header, &state.sessions);
        false
    }

    /// The peer has this as well.
    pub(crate) fn merge(&mut self, header: bool, sessions: &SessionCounts) {
        self.known_header |= header;
        self.expected_header |= header;
        if *sessions == self.expected {
            // It acknowledges everything that was sent.
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

    /// Shares our counts where they are the same.
    pub(crate) fn share(&mut self, ours: &SessionCounts) {
        for counts in [&mut self.known, &mut self.expected] {
            if counts == ours {
                counts.clone_from(ours);
            }
        }
    }

    /// The peer has no more than this of a session.
    pub(crate) fn lower(&mut self, session: &SessionId, count: u64) {
        for counts in [&mut self.known, &mut self.expected] {
            counts.set(session, count.min(counts.get(session)));
        }
    }

    /// These sessions are being sent, so that the peer will have all of ours.
    pub(crate) fn mark_sent(&mut self, sessions: &SessionCounts, ours: &SessionCounts) {
        self.expected_header = true;
        if known_state::is_subset(&self.expected, ours) {
            self.expected.clone_from(ours);
        } else {
            known_state::merge_counts(&mut self.expected, sessions);
        }
    }

    /// Only this much was sent.
    pub(crate) fn mark_reached(&mut self, header: bool, reached: &[(SessionId, u64)]) {
        self.expected_header = self.known_header || header;
        for (session, count) in reached {
            self.expected.set(session, (*count).max(self.known.get(session)));
        }
    }

    /// Takes over the counts from an earlier connection. Content that was sent and not
    /// acknowledged may have been lost.
    pub(crate) fn resume(&mut self, before: &Self) {
        self.known_header = before.known_header;
        self.known.clone_from(&before.known);
        self.expect_known();
        // The peer may have lost data as well: its first KNOWN states what it really has.
        self.claimed = true;
    }

    /// The CoValue is about to be forgotten. If the peer has exactly what we have, its counts are
    /// forgotten as well. Returns whether they are.
    pub(crate) fn agree(&mut self, ours: &SessionCounts) -> bool {
        let is_same = |state: State<'_>| state.header && state.sessions == ours;
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

    /// The CoValue is in memory again. `stored` is what a peer that agreed has, if storage still
    /// has the same.
    pub(crate) fn recall(&mut self, stored: Option<&SessionCounts>) {
        if mem::take(&mut self.agrees) {
            self.known = stored.cloned().unwrap_or_default();
            self.known_header = stored.is_some();
            self.expect_known();
        }
    }

    /// Nothing is on its way.
    fn expect_known(&mut self) {
        self.expected_header = self.known_header;
        self.expected.clone_from(&self.known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: u64) -> SessionCounts {
        let session = SessionId::parse("co_z1_session_z1").unwrap();
        SessionCounts::from_iter([(session, count)])
    }

    #[test]
    fn what_is_acknowledged_is_kept_once() {
        let ours = counts(3);
        let mut peer = PeerCounts::default();
        peer.mark_sent(&ours, &ours);
        peer.merge(true, &counts(3));
        assert!(peer.known().sessions.is_shared_with(&ours));
        assert!(peer.expected().sessions.is_shared_with(&ours));
    }

    #[test]
    fn a_peer_that_has_what_we_have_agrees_and_gets_its_counts_back() {
        let mut peer = PeerCounts::default();
        peer.mark_sent(&counts(3), &counts(3));
        assert!(!peer.agree(&counts(3)), "it has not acknowledged what was sent");
        peer.merge(true, &counts(3));
        assert!(!peer.agree(&counts(4)), "it lacks something");
        assert!(peer.agree(&counts(3)));
        assert!(peer.known().header && peer.known().sessions.is_empty());
        peer.recall(Some(&counts(3)));
        assert_eq!(peer.known().sessions, &counts(3));
    }

    #[test]
    fn a_peer_that_agreed_on_what_is_gone_is_taken_to_have_nothing() {
        let mut peer = PeerCounts::default();
        peer.merge(true, &counts(3));
        assert!(peer.agree(&counts(3)));
        peer.recall(None);
        assert!(!peer.known().header && peer.known().sessions.is_empty());
    }
}

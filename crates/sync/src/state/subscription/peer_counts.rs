//! The counts that a peer has of a CoValue, and those that it will have.
//!
//! There are very many of these, so counts share memory with those of the CoValue and of other
//! peers wherever they are the same. This also makes comparisons of many sessions cheap: a peer may
//! state any number of sessions, which is compared once, when it arrives, and not with each event.

use std::mem;

use downbeat_core::known_state;
use downbeat_protocol::{KnownState, SessionCounts, SessionId};

/// A known state without the id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State<'a> {
    pub header: bool,
    pub sessions: &'a SessionCounts,
}

/// What a peer lacks.
pub(crate) struct Lacking {
    /// The counts that it has.
    pub have: SessionCounts,
    /// The sessions in which it is behind, with our counts.
    pub until: SessionCounts,
}

/// The counts of one peer and CoValue.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states of one thing")]
pub(crate) struct PeerCounts {
    /// The counts that the peer has stated.
    known: SessionCounts,
    /// What the peer will have of our sessions when everything sent has arrived. Where it has
    /// stated more, that counts.
    ///
    /// After each look at what the peer lacks, this is a version of our own counts. So the next
    /// look takes few steps, whatever the peer has stated.
    expected: SessionCounts,
    /// How often `known` was replaced or lowered. A report on a turn from before is then recognised.
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
    /// Whether the peer will have the header when everything sent has arrived.
    pub(crate) fn expects_header(&self) -> bool {
        self.expected_header
    }

    /// Whether the peer lacks any transaction of ours when everything sent has arrived.
    pub(crate) fn lacks(&self, ours: &SessionCounts) -> bool {
        known_state::ahead(ours, &self.expected)
            .any(|(session, count, _)| count > self.known.get(session))
    }

    /// What the peer will have when everything sent has arrived, and what it lacks then.
    pub(crate) fn lacking(&self, ours: &SessionCounts) -> Lacking {
        let mut until = known_state::missing(ours, &self.expected);
        let mut have = self.expected.clone();
        if !until.is_empty() && !self.known.is_shared_with(&self.expected) {
            // Only these sessions matter, because no others are sent.
            let (fewer, more) = if self.known.len() < until.len() {
                (&self.known, &until)
            } else {
                (&until, &self.known)
            };
            for (session, _) in fewer {
                if more.get(session) > 0 {
                    have.raise(session, self.known.get(session));
                }
            }
            until = known_state::missing(&until, &self.known);
        }
        Lacking { have, until }
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
        if mem::take(&mut self.claimed)
            && (self.known_header && !state.header
                || !known_state::is_subset(&self.known, &state.sessions))
        {
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
        if known_state::completes(&self.known, sessions, &self.expected) {
            // It acknowledges everything that was sent.
            self.known.clone_from(&self.expected);
            return;
        }
        let is_all_known = self.known.is_shared_with(&self.expected);
        known_state::merge_counts(&mut self.known, sessions);
        if is_all_known {
            self.expected.clone_from(&self.known);
        }
    }

    /// The peer has sent this. If it has all of `ours` with that, it shares our counts.
    pub(crate) fn merge_sent(
        &mut self,
        header: bool,
        sessions: &SessionCounts,
        ours: Option<&SessionCounts>,
    ) {
        let Some(ours) = ours.filter(|ours| known_state::completes(&self.known, sessions, ours))
        else {
            return self.merge(header, sessions);
        };
        self.known_header |= header;
        self.expected_header |= header;
        self.known.clone_from(ours);
        if known_state::completes(&self.expected, sessions, ours) {
            self.expected.clone_from(ours);
        }
    }

    /// The peer has no more than this of a session. A turn that is on its way was made before that
    /// was known, so what it sends is sent again.
    pub(crate) fn lower(&mut self, session: &SessionId, count: u64) {
        self.known.set(session, count.min(self.known.get(session)));
        self.expect_known();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The peer has all of ours, or is being sent what it lacks.
    pub(crate) fn expect_all(&mut self, ours: &SessionCounts) {
        self.expected_header = true;
        // Counting a reference is slower than to compare the two.
        if !self.expected.is_shared_with(ours) {
            self.expected.clone_from(ours);
        }
    }

    /// The peer was sent less: it will have these counts.
    pub(crate) fn mark_reached(&mut self, header: bool, reached: &SessionCounts) {
        self.expected_header = self.known_header || header;
        self.expected.clone_from(reached);
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
        self.agrees = self.known_header
            && self.expected_header
            && known_state::completes(&self.known, &SessionCounts::new(), ours);
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
    /// has the same. `ours` are our counts.
    pub(crate) fn recall(&mut self, stored: Option<&SessionCounts>, ours: Option<&SessionCounts>) {
        if mem::take(&mut self.agrees) {
            self.known = stored.cloned().unwrap_or_default();
            self.known_header = stored.is_some();
            self.expect_known();
        } else if let Some(ours) = ours {
            self.known.rebase(ours);
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
        peer.expect_all(&ours);
        peer.merge(true, &counts(3));
        assert!(peer.known().sessions.is_shared_with(&ours));
        assert!(peer.expected.is_shared_with(&ours));
    }

    #[test]
    fn a_peer_lacks_what_it_has_neither_stated_nor_been_sent() {
        let session = |name: &str| SessionId::parse(&format!("co_z1_session_z{name}")).unwrap();
        let of = |counts: &[(&str, u64)]| -> SessionCounts {
            counts.iter().map(|(name, count)| (session(name), *count)).collect()
        };
        let ours = of(&[("a", 3), ("b", 3), ("c", 3)]);
        let mut peer = PeerCounts::default();
        peer.expect_all(&of(&[("a", 3)]));
        peer.merge(true, &of(&[("b", 3), ("c", 1), ("d", 1)]));
        assert!(peer.lacks(&ours));
        let Lacking { have, until } = peer.lacking(&ours);
        assert_eq!(until, of(&[("c", 3)]));
        assert_eq!(have, of(&[("a", 3), ("b", 3), ("c", 1)]));

        peer.mark_reached(true, &of(&[("a", 3), ("b", 3), ("c", 2)]));
        assert_eq!(peer.lacking(&ours).have.get(&session("c")), 2);
        peer.expect_all(&ours);
        assert!(!peer.lacks(&ours) && peer.lacking(&ours).until.is_empty());
    }

    #[test]
    fn a_peer_that_has_what_we_have_agrees_and_gets_its_counts_back() {
        let mut peer = PeerCounts::default();
        peer.expect_all(&counts(3));
        assert!(!peer.agree(&counts(3)), "it has not acknowledged what was sent");
        peer.merge(true, &counts(3));
        assert!(!peer.agree(&counts(4)), "it lacks something");
        assert!(peer.agree(&counts(3)));
        assert!(peer.known().header && peer.known().sessions.is_empty());
        peer.recall(Some(&counts(3)), None);
        assert_eq!(peer.known().sessions, &counts(3));
    }

    #[test]
    fn a_peer_that_agreed_on_what_is_gone_is_taken_to_have_nothing() {
        let mut peer = PeerCounts::default();
        peer.merge(true, &counts(3));
        assert!(peer.agree(&counts(3)));
        peer.recall(None, None);
        assert!(!peer.known().header && peer.known().sessions.is_empty());
    }
}

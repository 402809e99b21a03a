//! Counts that upstreams have announced (`expectContentUntil`) and not sent yet.

use downbeat_core::known_state;
use downbeat_protocol::{SessionCounts, SessionId};

use crate::event::PeerId;

/// The announced counts beyond what is verified, by upstream. No counts are empty.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    by_peer: Vec<(PeerId, SessionCounts)>,
}

impl Announcements {
    /// An upstream will send content up to these counts.
    pub(crate) fn add(&mut self, peer: PeerId, counts: &SessionCounts, verified: &SessionCounts) {
        let open = known_state::missing(counts, verified);
        if open.is_empty() {
            return;
        }
        match self.by_peer.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, announced)) => known_state::merge_counts(announced, &open),
            None => self.by_peer.push((peer, open)),
        }
    }

    /// So much of a session is verified.
    pub(crate) fn fulfil(&mut self, session: &SessionId, verified: u64) {
        self.by_peer.retain_mut(|(_, open)| {
            if open.get(session) <= verified {
                open.set(session, 0);
            }
            !open.is_empty()
        });
    }

    /// An upstream will not send what it has announced.
    pub(crate) fn withdraw(&mut self, peer: PeerId) {
        self.by_peer.retain(|(other, _)| *other != peer);
    }

    pub(crate) fn clear(&mut self) {
        self.by_peer.clear();
    }

    /// What all upstreams together have announced.
    pub(crate) fn all(&self) -> SessionCounts {
        let mut expected = SessionCounts::new();
        for (_, open) in &self.by_peer {
            known_state::merge_counts(&mut expected, open);
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_forgotten_session_by_session() {
        let [a, b] = ["co_z1_session_za", "co_z1_session_zb"]
            .map(|session| SessionId::parse(session).unwrap());
        let counts = |entries: &[(&SessionId, u64)]| -> SessionCounts {
            entries.iter().map(|(session, count)| ((*session).clone(), *count)).collect()
        };
        let mut announcements = Announcements::default();
        announcements.add(PeerId(1), &counts(&[(&a, 3), (&b, 2)]), &counts(&[(&b, 2)]));
        announcements.add(PeerId(2), &counts(&[(&a, 2)]), &SessionCounts::new());
        assert_eq!(announcements.all(), counts(&[(&a, 3)]));
        announcements.fulfil(&a, 2);
        assert_eq!(announcements.by_peer.len(), 1);
        announcements.fulfil(&a, 3);
        assert!(announcements.by_peer.is_empty());
    }
}

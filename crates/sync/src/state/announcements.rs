//! Counts that upstreams have announced (`expectContentUntil`) and not sent yet.

use downbeat_core::known_state;
use downbeat_protocol::SessionCounts;

use crate::event::PeerId;

/// The announced counts, by upstream.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    by_peer: Vec<(PeerId, SessionCounts)>,
}

impl Announcements {
    /// An upstream will send content up to these counts.
    pub(crate) fn add(&mut self, peer: PeerId, counts: &SessionCounts) {
        match self.by_peer.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, announced)) => known_state::merge_counts(announced, counts),
            None => self.by_peer.push((peer, counts.clone())),
        }
    }

    /// Forgets the announcements that are fulfilled.
    pub(crate) fn fulfil(&mut self, verified: &SessionCounts) {
        self.by_peer.retain(|(_, counts)| !known_state::is_subset(counts, verified));
    }

    /// An upstream will not send what it has announced.
    pub(crate) fn withdraw(&mut self, peer: PeerId) {
        self.by_peer.retain(|(other, _)| *other != peer);
    }

    pub(crate) fn clear(&mut self) {
        self.by_peer.clear();
    }

    /// The announced counts beyond the verified ones.
    pub(crate) fn beyond(&self, verified: &SessionCounts) -> SessionCounts {
        let mut expected = SessionCounts::new();
        for (_, announced) in &self.by_peer {
            known_state::merge_counts(&mut expected, announced);
        }
        known_state::missing(&expected, verified)
    }
}

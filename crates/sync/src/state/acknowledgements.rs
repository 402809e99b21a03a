//! The acknowledgements that a CoValue owes the peers that have sent content.
//!
//! A message may bring content of very many sessions, and many peers may send at the same time. So
//! a session is looked at only when something of it has changed, and only for the peers that wait
//! for it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use downbeat_core::known_state;
use downbeat_protocol::{SessionCounts, SessionId};

use crate::event::PeerId;

/// The peers that wait for an acknowledgement.
#[derive(Debug, Default)]
pub(crate) struct Acknowledgements {
    peers: BTreeMap<PeerId, Awaiting>,
    /// The sessions whose content is not durable or refused yet, each with a peer that sent it.
    open: BTreeSet<(SessionId, PeerId)>,
    /// Sessions that have changed since they were last looked at.
    changed: Vec<SessionId>,
}

#[derive(Debug, Default)]
struct Awaiting {
    /// What the peer has sent.
    sent: SessionCounts,
    /// How many of those sessions are open.
    open: usize,
}

impl Acknowledgements {
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// A peer gets an acknowledgement when these counts, which it has sent, are durable.
    pub(crate) fn add(&mut self, peer: PeerId, sent: &SessionCounts) {
        let awaiting = self.peers.entry(peer).or_default();
        known_state::merge_counts(&mut awaiting.sent, sent);
        for (session, _) in sent {
            awaiting.open += usize::from(self.open.insert((session.clone(), peer)));
            self.changed.push(session.clone());
        }
    }

    /// Something of a session has changed.
    pub(crate) fn mark_changed(&mut self, session: &SessionId) {
        if !self.is_empty() && self.changed.last() != Some(session) {
            self.changed.push(session.clone());
        }
    }

    /// Something of all sessions has changed.
    pub(crate) fn mark_all_changed(&mut self) {
        self.changed = self.open.iter().map(|(session, _)| session.clone()).collect();
    }

    /// Takes out the peers whose content is all durable or refused, each with what it has sent,
    /// and adds them to `due`. `is_settled` is whether this holds for a peer's content of a session
    /// up to a count. A header has no count, so a message without transactions is settled only if
    /// `is_all_stored`.
    pub(crate) fn take_settled(
        &mut self,
        is_all_stored: bool,
        is_settled: impl Fn(PeerId, &SessionId, u64) -> bool,
        due: &mut Vec<(PeerId, SessionCounts)>,
    ) {
        let mut changed = mem::take(&mut self.changed);
        for session in changed.drain(..) {
            let mut next = Some(PeerId(0));
            while let Some(from) = next
                && let Some((other, peer)) = self.open.range((session.clone(), from)..).next()
                && *other == session
            {
                let peer = *peer;
                next = peer.0.checked_add(1).map(PeerId);
                let sent = self.peers.get(&peer).map_or(0, |awaiting| awaiting.sent.get(&session));
                if is_settled(peer, &session, sent) {
                    self.open.remove(&(session.clone(), peer));
                    due.extend(self.close_one(peer).map(|sent| (peer, sent)));
                }
            }
        }
        self.changed = changed;
        if is_all_stored {
            self.peers.retain(|peer, awaiting| {
                let is_settled = awaiting.sent.is_empty();
                if is_settled {
                    due.push((*peer, SessionCounts::new()));
                }
                !is_settled
            });
        }
    }

    /// One of a peer's sessions is no longer open. Returns what the peer has sent if it was the
    /// last one.
    fn close_one(&mut self, peer: PeerId) -> Option<SessionCounts> {
        let awaiting = self.peers.get_mut(&peer)?;
        awaiting.open -= 1;
        if awaiting.open > 0 {
            return None;
        }
        self.peers.remove(&peer).map(|awaiting| awaiting.sent)
    }

    /// Takes out all peers, with what they have sent.
    pub(crate) fn take(&mut self) -> Vec<(PeerId, SessionCounts)> {
        let peers = mem::take(self).peers.into_iter();
        peers.map(|(peer, awaiting)| (peer, awaiting.sent)).collect()
    }
}

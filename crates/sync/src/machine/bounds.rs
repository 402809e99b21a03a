//! The bounds on the memory that is kept for peers: those that keep too much are disconnected.

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, KnownState, Message, SessionCounts};

use crate::action::Action;
use crate::credit::Credit;
use crate::event::PeerId;
use crate::machine::Machine;
use crate::overuse::Overuse;
use crate::state::entry::Entry;
use crate::state::index::Index;

/// Sessions of a claim that are compared with ours after each message.
const SMALL_CLAIM: usize = 64;

/// Peers that are disconnected with one poll.
const CLOSED_AT_ONCE: usize = 16;

/// The claim of a peer before a KNOWN.
pub(in crate::machine) struct ClaimBefore {
    epoch: u32,
    sessions: usize,
    /// What the KNOWN states.
    stated: SessionCounts,
}

impl Machine {
    /// Disconnects the clients that keep too much; and while all together keep too much, the
    /// client that keeps most, so that small ones are not hit.
    pub(in crate::machine) fn close_largest(&mut self) {
        for (peer, bytes) in self.peers.settle(self.config.bytes_per_peer) {
            self.close(peer, Overuse::Peer { bytes });
        }
        for _ in 0..CLOSED_AT_ONCE {
            let Some((peer, bytes)) = self.peers.largest_beyond(self.config.peer_bytes) else {
                return;
            };
            self.close(peer, Overuse::AllClients { bytes });
        }
    }

    fn close(&mut self, peer: PeerId, reason: Overuse) {
        self.peers.begin_closing(peer);
        self.actions.push(Action::Close { peer, reason });
    }

    /// Drops a message of a peer that is being disconnected.
    pub(in crate::machine) fn ignore(&mut self, peer: PeerId, message: &Message) {
        if let Message::Content(content) = message {
            self.release(Credit::of(peer, content));
        }
    }

    /// The claim of a peer that has a subscription, before a KNOWN with this state.
    pub(in crate::machine) fn claim_before(
        &self,
        peer: PeerId,
        state: &KnownState,
    ) -> Option<ClaimBefore> {
        let subscription = self.subscription(peer, state.id)?;
        let sessions = subscription.known().sessions.len();
        let stated = state.sessions.clone();
        Some(ClaimBefore { epoch: subscription.epoch(), sessions, stated })
    }

    /// Charges a peer for the sessions that it claims with other counts than ours, because they take
    /// memory of their own. `before` is its claim before the message that has just been handled;
    /// without it, all of the claim is new. The cost is in proportion to the message, and not to
    /// what was claimed before.
    pub(in crate::machine) fn charge_claim(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        before: Option<ClaimBefore>,
    ) {
        let Some(key) = self.values.key(id) else { return };
        let ours = self.values.get(&id).and_then(Entry::index).map(Index::verified);
        let Some(state) = self.peers.get(&peer) else { return };
        let Some(subscription) = state.subscription(key) else { return };
        let theirs = subscription.known().sessions;
        let charged = state.claims.get(key);
        let before = before.filter(|before| before.epoch == subscription.epoch());
        let sessions = match (ours, before) {
            (Some(ours), _) if theirs.is_shared_with(ours) => 0,
            (_, Some(before)) if theirs.len() > SMALL_CLAIM => {
                let added = theirs.len().saturating_sub(before.sessions);
                let ahead = ours.map_or(0, |ours| known_state::ahead(&before.stated, ours).count());
                theirs.len().min(charged + added.max(ahead))
            }
            // A peer that gets one edit after another is mostly one behind, which is not noted each
            // time.
            (Some(ours), Some(before)) if charged == 0 && theirs.len() == before.sessions => {
                known_state::ahead(theirs, ours).count()
            }
            (Some(ours), _) => differing(theirs, ours),
            (None, _) => theirs.len(),
        };
        self.peers.set_claim(peer, key, sessions);
    }

    /// Charges a peer for the counts of its dropped content, which are kept until it is corrected.
    /// This has to follow each change of them.
    pub(in crate::machine) fn charge_dropped(&mut self, peer: PeerId, id: CoValueId) {
        let Some(key) = self.values.key(id) else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(subscription) = state.subscription(key) else { return };
        let sessions = subscription.dropped_sessions();
        state.dropped.set(key, sessions);
    }
}

/// The number of sessions in `theirs` whose count in `ours` differs.
fn differing(theirs: &SessionCounts, ours: &SessionCounts) -> usize {
    if theirs.len() < ours.len() / 8 {
        return theirs.iter().filter(|(session, count)| ours.get(session) != **count).count();
    }
    theirs.differences(ours).filter(|(_, theirs, _)| *theirs > 0).count()
}

//! The connected peers, and the memory that is kept for them.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{AddAssign, SubAssign};

use downbeat_protocol::Priority;
use rustc_hash::FxHashMap;

use crate::event::PeerId;
use crate::state::backlog::Audience;
use crate::state::peer::{Peer, Readiness};
use crate::state::subscription::Subscription;
use crate::state::table::Key;
use crate::state::upstream_link::UpstreamLink;

/// Bytes that are kept for peers, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PeerBytes {
    pub subscriptions: u64,
    /// Sessions that peers claim with other counts than ours, and those of dropped content.
    pub claims: u64,
    /// Content that waits for dependencies, and its dependencies.
    pub held: u64,
    /// Reconcile batches.
    pub batches: u64,
}

/// The connected peers.
#[derive(Default)]
pub(crate) struct Peers {
    by_id: FxHashMap<PeerId, Kept>,
    /// Peers to build a turn for.
    ready: VecDeque<PeerId>,
    /// Peers whose next turn has begun to wait for the one that is being written.
    awaiting: Vec<PeerId>,
    /// Peers that may have changed since the last [`Peers::settle`].
    touched: Vec<PeerId>,
    /// The memory of all peers, as of the last [`Peers::settle`].
    bytes: PeerBytes,
    /// The part of the clients that are not being closed.
    open_clients: u64,
}

/// A peer, and what the table notes of it.
#[derive(Default)]
struct Kept {
    peer: Peer,
    /// Its part in the memory of all peers.
    bytes: PeerBytes,
    /// Whether it is on the list of touched peers.
    is_touched: bool,
    /// Whether its connection is being closed, because it keeps too much.
    is_closing: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the table of CoValues has it")]
impl Peers {
    pub(crate) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.by_id.get(id).map(|kept| &kept.peer)
    }

    /// Each change of the memory that is kept for a peer goes through here.
    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        let kept = self.by_id.get_mut(id)?;
        if !kept.is_touched {
            kept.is_touched = true;
            self.touched.push(*id);
        }
        Some(&mut kept.peer)
    }

    /// Notes how many sessions of a CoValue a peer is charged for.
    pub(crate) fn set_claim(&mut self, id: PeerId, key: Key, sessions: usize) {
        if self.get(&id).is_some_and(|peer| peer.claims.get(key) != sessions)
            && let Some(peer) = self.get_mut(&id)
        {
            peer.claims.set(key, sessions);
        }
    }

    /// A peer, for changes that take no memory and free none.
    fn get_in_place(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.by_id.get_mut(&id).map(|kept| &mut kept.peer)
    }

    /// A subscription: all count as the same, whatever is in them.
    pub(crate) fn subscription_mut(&mut self, id: PeerId, key: Key) -> Option<&mut Subscription> {
        self.get_in_place(id)?.subscription_mut(key)
    }

    /// The connection to an upstream, which is not counted.
    pub(crate) fn upstream_mut(&mut self, id: PeerId) -> Option<&mut UpstreamLink> {
        self.get_in_place(id)?.upstream_mut()
    }

    pub(crate) fn contains_key(&self, id: &PeerId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(crate) fn insert(&mut self, id: PeerId) {
        self.by_id.entry(id).or_default();
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let kept = self.by_id.remove(&id)?;
        self.bytes -= kept.bytes;
        if kept.is_open_client() {
            self.open_clients -= kept.bytes.total();
        }
        Some(kept.peer)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    #[cfg(feature = "faults")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.by_id.iter().map(|(id, kept)| (*id, &kept.peer))
    }

    /// The peers whose memory has changed without a note.
    #[cfg(feature = "faults")]
    pub(crate) fn miscounted(&self) -> impl Iterator<Item = PeerId> {
        let counted = self.by_id.iter().filter(|(_, kept)| !kept.is_touched);
        counted.filter(|(_, kept)| kept.bytes != kept.peer.bytes()).map(|(id, _)| *id)
    }

    /// The memory of all peers.
    pub(crate) fn bytes(&self) -> PeerBytes {
        self.bytes
    }

    /// Counts the memory of the peers that have changed, and returns those that keep more than
    /// `bound`, with the bytes of each. An upstream has a subscription to all that it is sent, so
    /// only its claims are bounded: it is soon sent or sends what it claims.
    pub(crate) fn settle(&mut self, bound: u64) -> Vec<(PeerId, u64)> {
        let mut too_large = Vec::new();
        for id in self.touched.drain(..) {
            let Some(kept) = self.by_id.get_mut(&id) else { continue };
            kept.is_touched = false;
            let before = std::mem::replace(&mut kept.bytes, kept.peer.bytes());
            self.bytes -= before;
            self.bytes += kept.bytes;
            if kept.is_closing {
                continue;
            }
            let bytes = if kept.peer.is_client() {
                self.open_clients = self.open_clients - before.total() + kept.bytes.total();
                kept.bytes.total()
            } else {
                kept.bytes.claims
            };
            if bytes > bound {
                too_large.push((id, bytes));
            }
        }
        too_large
    }

    /// The client that keeps most, with its bytes, if all clients together keep more than `bound`
    /// without those that are being closed.
    pub(crate) fn largest_beyond(&self, bound: u64) -> Option<(PeerId, u64)> {
        if self.open_clients <= bound {
            return None;
        }
        let clients = self.by_id.iter().filter(|(_, kept)| kept.is_open_client());
        // The id decides between equals, so that the choice is the same in every run.
        let largest = clients.map(|(id, kept)| (kept.bytes.total(), *id)).max()?;
        (largest.0 > 0).then_some((largest.1, largest.0))
    }

    /// A peer's connection is being closed: nothing more is taken from it.
    pub(crate) fn begin_closing(&mut self, id: PeerId) {
        let Some(kept) = self.by_id.get_mut(&id) else { return };
        if kept.is_open_client() {
            self.open_clients -= kept.bytes.total();
        }
        kept.is_closing = true;
    }

    /// Whether a peer's connection is being closed. `None` if there is no such peer.
    pub(crate) fn is_closing(&self, id: PeerId) -> Option<bool> {
        self.by_id.get(&id).map(|kept| kept.is_closing)
    }
}

/// Turns.
impl Peers {
    /// Queues a CoValue for a peer's next turn, if the peer belongs to its audience. What the peer
    /// gets of it is decided when the turn is built.
    pub(crate) fn enqueue(&mut self, id: PeerId, key: Key, priority: Priority, audience: Audience) {
        let Some(peer) = self.get_in_place(id) else { return };
        peer.enqueue(key, priority, audience);
        let readiness = peer.make_ready();
        self.note_readiness(id, readiness);
    }

    /// Puts a peer on the list for the next turns, if it has no turn and there is something to
    /// send.
    pub(crate) fn make_ready(&mut self, id: PeerId) {
        let Some(peer) = self.get_in_place(id) else { return };
        let readiness = peer.make_ready();
        self.note_readiness(id, readiness);
    }

    fn note_readiness(&mut self, id: PeerId, readiness: Readiness) {
        match readiness {
            Readiness::Unchanged => {}
            Readiness::Ready => self.ready.push_back(id),
            Readiness::Awaits => self.awaiting.push(id),
        }
    }

    /// A peer whose next turn waits for the one that is being written, and has not been returned
    /// for it yet.
    pub(crate) fn next_awaiting(&mut self) -> Option<PeerId> {
        while let Some(id) = self.awaiting.pop() {
            // The turn may be finished by now.
            if self.get(&id).is_some_and(Peer::awaits_turn) {
                return Some(id);
            }
        }
        None
    }

    /// The number of peers on that list.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn next_ready(&mut self) -> Option<PeerId> {
        self.ready.pop_front()
    }

    /// The machine builds a peer's turn. Returns the number of CoValues in the peer's queue, if the
    /// peer may have a turn now.
    pub(crate) fn begin_turn(&mut self, id: PeerId) -> Option<usize> {
        let peer = self.get_in_place(id)?;
        peer.begin_turn().then(|| peer.queued())
    }

    /// Takes the CoValue with the highest priority out of a peer's queue.
    pub(crate) fn next_queued(&mut self, id: PeerId) -> Option<Key> {
        self.get_in_place(id)?.next_queued()
    }

    /// Takes the id of a batch that can be acknowledged.
    pub(crate) fn next_finished_batch(&mut self, id: PeerId) -> Option<String> {
        if !self.get(&id)?.batches.has_finished() {
            return None;
        }
        self.get_mut(&id)?.batches.next_finished()
    }

    /// The runtime gets a peer's turn.
    pub(crate) fn hand_over_turn(&mut self, id: PeerId) {
        if let Some(peer) = self.get_in_place(id) {
            peer.hand_over_turn();
        }
        // There may be more than fits into the turn.
        self.make_ready(id);
    }

    /// The runtime has written a peer's turn.
    pub(crate) fn finish_turn(&mut self, id: PeerId) {
        if let Some(peer) = self.get_in_place(id) {
            peer.finish_turn();
        }
    }
}

impl Kept {
    fn is_open_client(&self) -> bool {
        !self.is_closing && self.peer.is_client()
    }
}

/// Without the sums, which follow from the peers.
impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.by_id.iter().map(|(id, kept)| (id, &kept.peer, kept.is_closing));
        let peers: Vec<_> = peers.collect();
        f.debug_struct("Peers")
            .field("by_id", &peers)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl PeerBytes {
    pub(crate) fn total(&self) -> u64 {
        let Self { subscriptions, claims, held, batches } = self;
        subscriptions + claims + held + batches
    }
}

impl AddAssign for PeerBytes {
    fn add_assign(&mut self, other: Self) {
        self.subscriptions += other.subscriptions;
        self.claims += other.claims;
        self.held += other.held;
        self.batches += other.batches;
    }
}

impl SubAssign for PeerBytes {
    fn sub_assign(&mut self, other: Self) {
        self.subscriptions -= other.subscriptions;
        self.claims -= other.claims;
        self.held -= other.held;
        self.batches -= other.batches;
    }
}

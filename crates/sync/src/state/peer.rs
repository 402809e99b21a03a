//! A peer: its part in each CoValue, and the queue of CoValues to send it something of.

use std::collections::{BTreeSet, VecDeque};

use downbeat_protocol::{CoValueId, Priority, UpstreamName};
use rustc_hash::FxHashMap;

use crate::cost::{AWAITED_BYTES, SUBSCRIPTION_BYTES};
use crate::state::backlog::Audience;
use crate::state::batches::Batches;
use crate::state::claims::Claims;
use crate::state::peers::PeerBytes;
use crate::state::subscription::Subscription;
use crate::state::table::Key;
use crate::state::upstream_link::UpstreamLink;

/// A connected peer.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Present if the peer is an upstream.
    upstream: Option<Box<UpstreamLink>>,
    /// The CoValues that the peer has loaded, sent, or been sent.
    subscriptions: FxHashMap<Key, Subscription>,
    /// The CoValues to send something of, by priority. Each is here at most once
    /// (`Subscription::queued`), so the queue is bounded by the subscriptions.
    queue: [VecDeque<Key>; 3],
    turn: TurnState,
    pub held: HeldShare,
    /// The CoValues of a client's LOADs that storage has not answered, and of the LOADs behind
    /// them, in their order. Each is here at most once (`Subscription::in_turn`).
    loading: VecDeque<CoValueId>,
    /// Reconcile batches of the peer that are not acknowledged yet.
    pub batches: Batches,
    /// The sessions that the peer claims with other counts than ours.
    pub claims: Claims,
    /// The sessions of the peer's dropped content, for which it gets a correction.
    pub dropped: Claims,
}

/// Whether a peer has a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum TurnState {
    #[default]
    Idle,
    /// It is on the machine's list of peers to build a turn for.
    Ready,
    /// The runtime is writing its turn.
    Writing,
    /// The same, and there is something for the turn after it.
    Awaited,
}

/// What has changed when a peer may have got something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Unchanged,
    /// A turn can be built for the peer.
    Ready,
    /// Its next turn waits for the one that is being written.
    Awaits,
}

/// A peer's content that waits for dependencies.
#[derive(Debug, Default)]
pub(crate) struct HeldShare {
    bytes: u64,
    /// Dependencies that the content waits for, or that are kept in memory for it.
    awaited: usize,
    ids: BTreeSet<CoValueId>,
}

impl Peer {
    /// The connection to an upstream. A peer without one is a client.
    pub(crate) fn upstream(&self) -> Option<&UpstreamLink> {
        self.upstream.as_deref()
    }

    pub(crate) fn upstream_mut(&mut self) -> Option<&mut UpstreamLink> {
        self.upstream.as_deref_mut()
    }

    /// The only place that tells clients from upstreams.
    pub(crate) fn is_client(&self) -> bool {
        self.upstream.is_none()
    }

    pub(crate) fn upstream_name(&self) -> Option<&UpstreamName> {
        self.upstream().map(UpstreamLink::name)
    }

    pub(crate) fn become_upstream(&mut self, name: UpstreamName) -> &mut UpstreamLink {
        self.upstream.insert(Box::new(UpstreamLink::new(name)))
    }

    pub(crate) fn subscription(&self, key: Key) -> Option<&Subscription> {
        self.subscriptions.get(&key)
    }

    pub(crate) fn subscription_mut(&mut self, key: Key) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(&key)
    }

    /// A subscription, made if there is none.
    pub(crate) fn subscribe(&mut self, key: Key) -> &mut Subscription {
        self.subscriptions.entry(key).or_default()
    }

    pub(crate) fn unsubscribe(&mut self, key: Key) {
        self.subscriptions.remove(&key);
        self.claims.set(key, 0);
        self.dropped.set(key, 0);
    }

    /// The bytes that are kept for the peer.
    pub(crate) fn bytes(&self) -> PeerBytes {
        PeerBytes {
            subscriptions: self.subscriptions.len() as u64 * SUBSCRIPTION_BYTES,
            claims: self.claims.bytes() + self.dropped.bytes(),
            held: self.held.bytes() + self.held.awaited() as u64 * AWAITED_BYTES,
            batches: self.batches.bytes(),
        }
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn into_parts(
        self,
    ) -> (Option<Box<UpstreamLink>>, FxHashMap<Key, Subscription>, HeldShare) {
        (self.upstream, self.subscriptions, self.held)
    }
}

/// Turns.
impl Peer {
    /// Puts a CoValue into the queue, unless it is there already, or for others.
    pub(crate) fn enqueue(&mut self, key: Key, priority: Priority, audience: Audience) {
        if let Some(subscription) = self.subscriptions.get_mut(&key)
            && audience.has(subscription)
            && subscription.enter_queue()
        {
            self.queue[lane(priority)].push_back(key);
        }
    }

    /// Takes the CoValue with the highest priority out of the queue.
    pub(crate) fn next_queued(&mut self) -> Option<Key> {
        let key = self.queue.iter_mut().find_map(VecDeque::pop_front)?;
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.leave_queue();
        }
        Some(key)
    }

    /// The number of CoValues in the queue.
    pub(crate) fn queued(&self) -> usize {
        self.queue.iter().map(VecDeque::len).sum()
    }

    /// Whether there is nothing to send.
    pub(crate) fn has_nothing_to_send(&self) -> bool {
        self.queue.iter().all(VecDeque::is_empty)
            && !self.batches.has_finished()
            && !self.upstream().is_some_and(UpstreamLink::has_batch_to_send)
    }

    /// Becomes ready for a turn, or waits for the end of its turn, if there is something to send.
    pub(crate) fn make_ready(&mut self) -> Readiness {
        let (next, readiness) = match self.turn {
            TurnState::Idle => (TurnState::Ready, Readiness::Ready),
            TurnState::Writing => (TurnState::Awaited, Readiness::Awaits),
            TurnState::Ready | TurnState::Awaited => return Readiness::Unchanged,
        };
        if self.has_nothing_to_send() {
            return Readiness::Unchanged;
        }
        self.turn = next;
        readiness
    }

    /// Whether the next turn waits for the one that is being written.
    pub(crate) fn awaits_turn(&self) -> bool {
        self.turn == TurnState::Awaited
    }

    /// The machine builds the peer's turn. Returns whether the peer may have one now.
    pub(crate) fn begin_turn(&mut self) -> bool {
        let is_ready = self.turn == TurnState::Ready;
        if is_ready {
            self.turn = TurnState::Idle;
        }
        is_ready
    }

    /// The runtime gets the peer's turn.
    pub(crate) fn hand_over_turn(&mut self) {
        self.turn = TurnState::Writing;
    }

    /// The runtime has written the peer's turn.
    pub(crate) fn finish_turn(&mut self) {
        if matches!(self.turn, TurnState::Writing | TurnState::Awaited) {
            self.turn = TurnState::Idle;
        }
    }
}

/// LOADs of a client.
impl Peer {
    /// Puts a LOAD behind those that storage has not answered, unless it is there already.
    pub(crate) fn wait_in_turn(&mut self, key: Key, id: CoValueId) {
        if let Some(subscription) = self.subscriptions.get_mut(&key)
            && !subscription.set_in_turn(true)
        {
            self.loading.push_back(id);
        }
    }

    /// The first LOAD that waits for its turn.
    pub(crate) fn first_loading(&self) -> Option<CoValueId> {
        self.loading.front().copied()
    }

    pub(crate) fn pop_loading(&mut self) {
        self.loading.pop_front();
    }
}

impl HeldShare {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The dependencies that the content waits for, or that are kept in memory for it.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited
    }

    pub(crate) fn add(&mut self, id: CoValueId, bytes: u64, awaited: usize) {
        self.ids.insert(id);
        self.bytes = self.bytes.saturating_add(bytes);
        self.awaited += awaited;
    }

    pub(crate) fn remove(&mut self, id: CoValueId, bytes: u64, awaited: usize) {
        self.ids.remove(&id);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.awaited = self.awaited.saturating_sub(awaited);
    }

    /// The CoValues with held content.
    pub(crate) fn ids(&self) -> impl Iterator<Item = CoValueId> {
        self.ids.iter().copied()
    }
}

fn lane(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Medium => 1,
        Priority::Low => 2,
    }
}

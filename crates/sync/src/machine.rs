//! The machine: its state, and the dispatch of events to their handlers.
//!
//! `events` has a file with the handler of each event. The other files have the steps that the
//! handlers share. They use each other in one direction, with one exception: content that is
//! accepted may decide whether a CoValue is here, which lets content go on that waited for that
//! (`content`, `verify`, `verified`, `loaded`, `resumed` and `upstream_answers`). All of them
//! change the state through the types of `crate::state`.

mod access;
mod agreement;
mod answers;
mod asking;
mod backlog;
mod bounds;
mod comparisons;
mod deletion;
mod dependencies_first;
mod events;
mod eviction;
mod groups;
mod holding;
#[cfg(feature = "faults")]
mod inspection;
mod notes;
mod pages;
mod requests;
mod resumed;
mod selection;
mod store;
mod turn;
mod turn_content;
mod upstream_answers;
mod verify;
mod waiting;
mod watching;

use std::collections::VecDeque;

use downbeat_protocol::{CoValueId, Message, SessionId};

use crate::action::Action;
use crate::config::Config;
use crate::cost::CHAIN_BYTES;
use crate::event::{Event, Millis, PeerId};
#[cfg(feature = "faults")]
use crate::injected_bug::InjectedBug;
use crate::memory_use::MemoryUse;
use crate::state::backlog::Backlog;
use crate::state::entry::Entry;
use crate::state::peer::Peer;
use crate::state::peers::Peers;
use crate::state::recency::{Stamp, UseOrder};
use crate::state::table::CoValueTable;
use crate::state::timers::Timers;
use crate::state::unsynced::UnsyncedNotes;
use crate::state::upstreams::Upstreams;
use crate::state::walk::Walks;

/// The sync machine. Feed it events with [`Machine::handle`], and take its actions with
/// [`Machine::poll`].
///
/// It is deterministic: the same events at the same times give the same actions.
#[derive(Debug, Default)]
pub struct Machine {
    config: Config,
    now: Millis,
    peers: Peers,
    /// The CoValues in memory, and the subscribers of each.
    values: CoValueTable,
    timers: Timers,
    upstreams: Upstreams,
    /// CoValues that upstreams have not acknowledged.
    unsynced: UnsyncedNotes,
    /// Walks through dependencies that wait for look-ups.
    walks: Walks,
    /// Queues of held content that are complete: the CoValue and the peer of each.
    retries: VecDeque<(CoValueId, PeerId)>,
    /// Bytes of held content from peers that have disconnected, with its dependencies.
    left_bytes: u64,
    /// Work for the next polls.
    backlog: Backlog,
    actions: Vec<Action>,
    /// The time of the last use of a chain: it grows with each.
    stamp: Stamp,
    chain_uses: UseOrder<(CoValueId, SessionId)>,
    /// Hash chains in memory, over all CoValues.
    warm_chains: usize,
    #[cfg(feature = "faults")]
    bug: Option<InjectedBug>,
}

impl Machine {
    /// A machine that knows no peers and no CoValues.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Takes in what has happened at a time. Completions of actions that are no longer in
    /// progress are ignored.
    pub fn handle(&mut self, now: Millis, event: Event) {
        self.now = self.now.max(now);
        let about = event.co_value();
        match event {
            Event::Connected { peer, role } => self.connected(peer, role),
            Event::Disconnected(peer) => self.disconnected(peer),
            Event::Received { peer, message } => self.received(peer, message),
            Event::Refused { peer, id, refusal } => self.refused(peer, id, refusal),
            Event::Loaded { id, result } => self.loaded(id, result),
            Event::Verified(verified) => self.verified(verified),
            Event::Stored(stored) => self.stored(stored),
            Event::TurnDone { peer, progress } => self.turn_done(peer, &progress),
            Event::Unsynced { upstream, ids } => self.listed_unsynced(&upstream, &ids),
            Event::Listed { upstream, values } => self.listed_stored(&upstream, values),
            Event::Tick => {}
        }
        self.tick();
        self.retry_held();
        if let Some(id) = about {
            self.finish_comparisons(id);
        }
    }

    fn received(&mut self, peer: PeerId, message: Message) {
        match self.peers.is_closing(peer) {
            None => return,
            Some(true) => return self.ignore(peer, &message),
            Some(false) => {}
        }
        match message {
            Message::Load(state) => {
                let id = state.id;
                self.received_load(peer, state);
                self.charge_claim(peer, id, None);
                self.charge_dropped(peer, id);
            }
            Message::Known(mut known) => {
                let id = known.state.id;
                self.rebase(peer, &mut known.state);
                let before = self.claim_before(peer, &known.state);
                self.received_known(peer, known, before.is_none());
                self.charge_claim(peer, id, before);
            }
            Message::Content(content) => self.received_content(peer, content),
            Message::Reconcile(reconcile) => self.received_reconcile(peer, reconcile),
            Message::ReconcileAck(batch) => self.reconcile_acknowledged(peer, &batch),
            // The runtime answers messages that are about no CoValue.
            Message::Done(_) | Message::Unknown(_) => {}
        }
    }

    /// Takes the actions that are due. One call for several events combines their messages to a
    /// peer in one turn.
    ///
    /// What one event or message causes may be too much for one call. Then [`Machine::deadline`] is
    /// not later than now, and the next call goes on.
    pub fn poll(&mut self, actions: &mut Vec<Action>) {
        self.work_off();
        self.build_turns();
        self.forget_unused();
        self.close_largest();
        self.await_turns();
        actions.append(&mut self.actions);
    }

    /// The time of the next [`Event::Tick`]. None is needed before another event has come if this
    /// is `None`. It is not later than now while [`Machine::poll`] has more to do.
    pub fn deadline(&self) -> Option<Millis> {
        if self.has_backlog() { Some(self.now) } else { self.timers.next() }
    }

    /// A peer that waits for a look-up of a CoValue, so that a runtime can look up for the peers in
    /// turn. `None` for look-ups of the machine's own.
    pub fn asker(&self, id: CoValueId) -> Option<PeerId> {
        self.values.get(&id).and_then(Entry::asker)
    }

    /// The number of CoValues in memory.
    pub fn warm_co_values(&self) -> usize {
        self.values.len()
    }

    /// The number of connected peers.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// The number of CoValues that the machine keeps any state of for a peer.
    pub fn subscriptions(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, Peer::subscription_count)
    }

    /// Bytes of content that waits for dependencies, and of the dependencies that it waits for.
    pub fn held_bytes(&self) -> u64 {
        self.memory().held
    }

    /// The memory of the machine, by kind, as of the last [`Machine::poll`].
    pub fn memory(&self) -> MemoryUse {
        let (entries, peers) = (self.values.bytes(), self.peers.bytes());
        MemoryUse {
            entries: entries.all - entries.headers,
            headers: entries.headers,
            subscriptions: peers.subscriptions,
            claims: peers.claims,
            held: peers.held + self.left_bytes,
            batches: peers.batches,
            chains: self.warm_chains as u64 * CHAIN_BYTES,
        }
    }
}

//! A CoValue in memory: whether it is here, and who and what waits for it.

use std::collections::BTreeSet;
use std::mem;
use std::ops::{AddAssign, SubAssign};

use downbeat_core::dependencies;
use downbeat_protocol::{CoValueId, Priority, SessionContent};

use crate::cost;
use crate::event::PeerId;
use crate::state::dependencies::Dependencies;
use crate::state::held::HeldQueues;
use crate::state::index::Index;
use crate::state::pending::PendingContent;
use crate::state::presence::{Change, Presence};

/// A CoValue that the machine has in memory. One that it does not have may still be in storage.
#[derive(Debug)]
pub(crate) struct Entry {
    presence: Presence,
    /// Peers that wait until it is known whether the CoValue is here, each with the CoValue that
    /// it is served then: this one (at most once for each peer), or one that depends on it.
    pub waiting: Vec<(PeerId, CoValueId)>,
    /// Content that came while storage was asked.
    inbox: Vec<PendingContent>,
    /// Content that waits for dependencies, by the peer that sent it.
    pub held: HeldQueues,
    /// Queues of held content that wait for this CoValue: the CoValue and the peer of each.
    dependants: BTreeSet<(CoValueId, PeerId)>,
    /// Those of them with refused content.
    refused_dependants: BTreeSet<(CoValueId, PeerId)>,
    /// The CoValues that the verified content of this one depends on.
    dependencies: Dependencies,
    /// Peers that have answered the LOAD of a comparison, and whose content is not durable yet.
    comparing: Vec<PeerId>,
    /// Messages of this CoValue that wait until a group is stored.
    parked: u32,
    /// How many parked messages, judged deletions and walks need the entry to stay in memory.
    pins: u32,
}

/// Bytes that entries take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EntryBytes {
    /// All of them.
    pub all: u64,
    /// The part for headers.
    pub headers: u64,
}

impl Entry {
    /// The entry of a CoValue that storage is asked for.
    pub(crate) fn loading() -> Self {
        Self {
            presence: Presence::Loading,
            waiting: Vec::new(),
            inbox: Vec::new(),
            held: HeldQueues::default(),
            dependants: BTreeSet::new(),
            refused_dependants: BTreeSet::new(),
            dependencies: Dependencies::default(),
            comparing: Vec::new(),
            parked: 0,
            pins: 0,
        }
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Changes the presence. Returns whether it became another one.
    pub(crate) fn change(&mut self, change: Change<'_>) -> bool {
        let before = mem::discriminant(&self.presence);
        self.presence = mem::replace(&mut self.presence, Presence::Absent).after(change);
        before != mem::discriminant(&self.presence)
    }

    pub(crate) fn index(&self) -> Option<&Index> {
        match &self.presence {
            Presence::Here(index) => Some(index),
            _ => None,
        }
    }

    pub(crate) fn index_mut(&mut self) -> Option<&mut Index> {
        match &mut self.presence {
            Presence::Here(index) => Some(index),
            _ => None,
        }
    }

    pub(crate) fn priority(&self) -> Priority {
        self.index().map_or(Priority::Medium, |index| index.header().priority())
    }

    /// Whether it is not known yet if the CoValue is here, or what can be served of it.
    pub(crate) fn is_undecided(&self) -> bool {
        match &self.presence {
            Presence::Loading | Presence::Unknown(_) | Presence::Asking(_) => true,
            Presence::Absent => false,
            Presence::Here(index) => index.is_fresh(),
        }
    }

    /// Whether the entry can be forgotten, because nothing of it is in progress.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_settled = match &self.presence {
            Presence::Loading | Presence::Unknown(_) | Presence::Asking(_) => false,
            Presence::Absent => true,
            Presence::Here(index) => index.is_settled() && index.owes_no_acknowledgement(),
        };
        is_settled
            && self.waiting.is_empty()
            && self.inbox.is_empty()
            && self.held.is_empty()
            && self.dependants.is_empty()
            && self.pins == 0
    }

    /// The bytes that the entry takes, without the content that is in progress.
    pub(crate) fn bytes(&self) -> EntryBytes {
        let header = self.index().map(Index::header);
        let sessions = self.index().map_or(0, |index| index.verified().len());
        EntryBytes {
            all: cost::entry_bytes(header, sessions, self.dependencies.len()),
            headers: header.map_or(0, cost::header_bytes),
        }
    }

    /// Puts content aside until storage has answered.
    pub(crate) fn push_inbox(&mut self, pending: PendingContent) {
        self.inbox.push(pending);
    }

    /// A peer that a look-up is for: its LOAD, its content, or content of it that waits for the
    /// CoValue.
    pub(crate) fn asker(&self) -> Option<PeerId> {
        let loaded = self.waiting.first().map(|(peer, _)| *peer);
        let sent = || self.inbox.first().map(PendingContent::peer);
        let needed = || self.dependants.first().map(|(_, peer)| *peer);
        loaded.or_else(sent).or_else(needed)
    }

    pub(crate) fn take_inbox(&mut self) -> Vec<PendingContent> {
        mem::take(&mut self.inbox)
    }

    /// Whether content that a peer has sent waits for storage, or for a group.
    pub(crate) fn has_pending_of(&self, peer: PeerId) -> bool {
        self.parked > 0 || self.inbox.iter().any(|pending| pending.peer() == peer)
    }

    /// Queues of held content that wait for this CoValue.
    pub(crate) fn dependants(&self) -> &BTreeSet<(CoValueId, PeerId)> {
        &self.dependants
    }

    /// Those queues of them that have refused content, which more of this CoValue may change.
    pub(crate) fn refused_dependants(&self) -> &BTreeSet<(CoValueId, PeerId)> {
        &self.refused_dependants
    }

    /// Registers a queue of held content. Returns whether it was not registered before.
    pub(crate) fn add_dependant(&mut self, id: CoValueId, peer: PeerId, is_refused: bool) -> bool {
        if is_refused {
            self.refused_dependants.insert((id, peer));
        }
        self.dependants.insert((id, peer))
    }

    pub(crate) fn remove_dependant(&mut self, id: CoValueId, peer: PeerId) {
        self.refused_dependants.remove(&(id, peer));
        self.dependants.remove(&(id, peer));
    }

    pub(crate) fn dependencies(&self) -> &Dependencies {
        &self.dependencies
    }

    pub(crate) fn add_dependencies(&mut self, ids: impl IntoIterator<Item = CoValueId>) {
        self.dependencies.extend(ids);
    }

    /// Adds the dependencies that verified runs bring.
    pub(crate) fn add_dependencies_of(&mut self, id: CoValueId, runs: &[SessionContent]) {
        let Some(index) = self.index() else { return };
        let mut found = dependencies::of_sessions(runs.iter().map(|run| &run.session));
        if index.header().is_group() {
            let transactions = runs.iter().flat_map(|run| &run.transactions);
            found.extend(dependencies::of_group_transactions(transactions));
        }
        self.dependencies.extend(found.into_iter().filter(|dependency| *dependency != id));
    }

    /// A peer has answered the LOAD of a comparison.
    pub(crate) fn add_comparing(&mut self, peer: PeerId) {
        if !self.comparing.contains(&peer) {
            self.comparing.push(peer);
        }
    }

    /// Whether the content of any peer that has answered such a LOAD may not be durable yet.
    pub(crate) fn is_compared(&self) -> bool {
        !self.comparing.is_empty()
    }

    pub(crate) fn take_comparing(&mut self) -> Vec<PeerId> {
        mem::take(&mut self.comparing)
    }

    pub(crate) fn set_comparing(&mut self, comparing: Vec<PeerId>) {
        self.comparing = comparing;
    }

    /// Keeps the entry in memory until [`Entry::unpin`].
    pub(crate) fn pin(&mut self) {
        self.pins += 1;
    }

    pub(crate) fn unpin(&mut self) {
        self.pins = self.pins.saturating_sub(1);
    }

    /// A message of this CoValue begins to wait until a group is stored.
    pub(crate) fn park(&mut self) {
        self.pin();
        self.parked += 1;
    }

    pub(crate) fn unpark(&mut self) {
        self.unpin();
        self.parked = self.parked.saturating_sub(1);
    }

    /// What is in progress, for the simulation's messages.
    #[cfg(feature = "faults")]
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} waiting, {} in the inbox, {} held, {} dependants, {} pins, settled {:?}",
            self.waiting.len(),
            self.inbox.len(),
            self.held.len(),
            self.dependants.len(),
            self.pins,
            self.index().map(Index::is_settled)
        )
    }
}

impl AddAssign for EntryBytes {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.headers += other.headers;
    }
}

impl SubAssign for EntryBytes {
    fn sub_assign(&mut self, other: Self) {
        self.all -= other.all;
        self.headers -= other.headers;
    }
}

//! A connection as the engine and both of its halves see it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use downbeat_sync::{PeerId, PeerRole, Rejection, UpstreamName};
use downbeat_transport::{CloseCode, CloseReason, PeerInfo};
use tokio::sync::watch;

use crate::addresses::Address;
use crate::credit::Credit;
use crate::places::Places;
use crate::proof::Proof;
use crate::source::Source;
use crate::stats::{LimitCells, add};
use crate::turn_slot::TurnSlot;
use crate::usage::Key;

/// What a strike counts as, in messages: at the default rate a connection has ten a second.
const STRIKE_WORK: u64 = 1_000;

/// The role of a peer.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// It has connected to us.
    Client,
    /// A server of ours.
    Upstream(UpstreamName),
    /// This program itself, with a channel for the reason if its content is refused.
    Local(watch::Sender<Option<Rejection>>),
}

impl Kind {
    pub(crate) fn role(&self) -> PeerRole {
        match self {
            Self::Upstream(name) => PeerRole::Upstream(name.clone()),
            Self::Client | Self::Local(_) => PeerRole::Client,
        }
    }
}

/// What is known of a connection.
pub(crate) struct Link {
    pub peer: PeerId,
    pub info: PeerInfo,
    pub kind: Kind,
    /// Whose share the peer draws from.
    pub source: Source,
    /// The address, where the peer is a client with one.
    pub address: Option<Arc<Address>>,
    /// The access key, where the peer is a client that came with one.
    pub key: Option<Arc<Key>>,
    pub turn: TurnSlot,
    pub credit: Credit,
    pub places: Places,
    pub debts: Debts,
    /// Strikes after which a client is closed.
    pub max_strikes: u32,
    /// Where only some accounts may store content: whether one of them is behind the peer.
    pub proof: Proof,
    /// Why the connection has to end, once it has to.
    pub close: watch::Sender<Option<CloseReason>>,
}

/// What a peer has caused beside its messages.
#[derive(Debug, Default)]
pub(crate) struct Debts {
    /// Work that the rates do not know yet, in messages.
    work: AtomicU64,
    strikes: AtomicU32,
}

impl Debts {
    /// The node has done work for the peer, which counts with its next frame.
    pub(crate) fn charge(&self, messages: u64) {
        if messages > 0 {
            self.work.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Takes out what has to be counted.
    pub(crate) fn take(&self) -> u64 {
        // Nearly always there is nothing, and then nothing is written to memory that threads share.
        if self.work.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.work.swap(0, Ordering::Relaxed)
    }

    /// Counts a strike. Returns how many there were.
    fn strike(&self) -> u32 {
        self.charge(STRIKE_WORK);
        self.strikes.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

impl Link {
    /// Whose share a peer draws from. It may have left, so that its connection is unknown.
    pub(crate) fn source_of(peer: PeerId, link: Option<&Arc<Self>>) -> Source {
        link.map_or(Source::Peer(peer), |link| link.source)
    }

    /// The peer has sent something that only a broken or a hostile client sends. A client that goes
    /// on with that is closed.
    pub(crate) fn strike(&self, counters: &LimitCells, detail: impl Display) {
        if !matches!(self.kind, Kind::Client) || self.debts.strike() < self.max_strikes {
            return;
        }
        let text = format!("too much invalid content, at last: {detail}");
        if self.close(CloseReason::new(CloseCode::PolicyViolation, text)) {
            add(&counters.closed_for_strikes, 1);
        }
    }

    /// Ends the connection as soon as possible. Returns whether it was not about to end before.
    pub(crate) fn close(&self, reason: CloseReason) -> bool {
        self.close.send_if_modified(|close| {
            let is_first = close.is_none();
            close.get_or_insert(reason);
            is_first
        })
    }
}

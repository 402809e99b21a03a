//! A connection as the engine and both of its halves see it.

use std::sync::Arc;

use downbeat_sync::{PeerId, PeerRole, Rejection, UpstreamName};
use downbeat_transport::{CloseReason, PeerInfo};
use tokio::sync::watch;

use crate::credit::Credit;
use crate::proof::Proof;
use crate::usage::Key;

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
    /// The access key, where the peer is a client that came with one.
    pub key: Option<Arc<Key>>,
    pub credit: Credit,
    /// Where only some accounts may store content: whether one of them is behind the peer.
    pub proof: Proof,
    /// Why the connection has to end, once it has to.
    pub close: watch::Sender<Option<CloseReason>>,
}

impl Link {
    /// Ends the connection as soon as possible.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.close.send_if_modified(|close| {
            let is_first = close.is_none();
            close.get_or_insert(reason);
            is_first
        });
    }
}

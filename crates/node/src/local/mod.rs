//! Reading and writing CoValues in the program that runs the node.
//!
//! Each open CoValue is a connection of its own to the node, inside the process, as a client. So
//! local content takes the same way as that of other clients, a slow reader delays only itself, and
//! closing a CoValue ends its subscription.

mod line;
mod updates;
mod value;

use std::sync::Weak;
use std::time::Duration;

use downbeat_core::{AppendError, CoValue, IngestError, SessionError};
use downbeat_protocol::{CoValueId, Content, Header, KnownState, SessionId};
use downbeat_storage::StorageError;
use downbeat_sync::Rejection;
use tokio::sync::oneshot;

use self::line::{Line, Request};
pub use self::updates::Updates;
pub use self::value::LocalValue;
use crate::engine::Command;
use crate::shared::Shared;

/// Opens CoValues of a node in the program that runs it; from [`Node::local`](crate::Node::local).
///
/// Clones are the same. They do not keep the node running: when it has ended, every call is
/// [`LocalError::ShutDown`].
#[derive(Clone)]
pub struct Local {
    shared: Weak<Shared>,
}

/// Why a CoValue could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// Neither the node nor any of its upstreams has the CoValue, now and three seconds ago.
    #[error("{0} was not found")]
    NotFound(CoValueId),
    /// The node does not have the CoValue, and an upstream that may have it is not connected.
    #[error("{0} is not here, and an upstream that may have it is not connected")]
    Unreachable(CoValueId),
    /// The CoValue, or all of its content, did not come in time.
    #[error("{0} was not loaded within {1:?}")]
    NotLoaded(CoValueId, Duration),
    /// The transaction cannot be made.
    #[error("the transaction cannot be made")]
    Append(#[from] AppendError),
    /// The node has refused what was written. What is in memory is not what others have from now
    /// on: load the CoValue again.
    #[error("the node has refused what was written")]
    Rejected(#[source] Rejection),
    /// The node's log of this session differs from the one in memory, because another writer uses
    /// the session: load the CoValue again.
    #[error("session {session} is not what the node has")]
    OutOfStep {
        /// The session.
        session: SessionId,
        /// What does not fit.
        source: Box<SessionError>,
    },
    /// The node has sent content that is not of the CoValue: a bug.
    #[error("the node has sent content that does not fit")]
    Ingest(#[from] IngestError),
    /// Storage could not be read.
    #[error("storage could not be read")]
    Storage(#[source] StorageError),
    /// What was waited for did not come in time. It may still come.
    #[error("{0} was not acknowledged within {1:?}")]
    NotAcknowledged(CoValueId, Duration),
    /// The node has ended.
    #[error("the node is shut down")]
    ShutDown,
}

impl Local {
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self { shared }
    }

    /// Creates the CoValue that a header makes. Its id follows from the header
    /// ([`LocalValue::id`]); if the CoValue is there already, what it holds comes with the updates
    /// ([`LocalValue::changed`]).
    ///
    /// Returns when the node has been given the header; [`LocalValue::stored`] waits until it is
    /// durable. The group that owns the CoValue must be with the node, or with one of its
    /// upstreams: otherwise the CoValue waits for it, and is refused after a while.
    pub async fn create(&self, header: Header) -> Result<LocalValue, LocalError> {
        let line = Line::open(&self.shared).await?;
        LocalValue::create(self.clone(), line, CoValue::new(header)).await
    }

    /// Loads a CoValue, with all that the node has of it, and subscribes to it. It is verified
    /// once more, and held in memory as a whole; [`Self::updates`] does neither.
    ///
    /// What neither the node nor an upstream has is asked for again after three seconds, and then
    /// given up as [`LocalError::NotFound`]. If an upstream that may have it is not connected, that
    /// is [`LocalError::Unreachable`], at once (in the first two seconds of a node: when they are
    /// over). An upstream that does not answer counts as not having it after
    /// [`load_time`](crate::SyncConfig::load_time).
    ///
    /// [`LocalError::NotLoaded`] if there is no outcome `within` this time, for example because
    /// storage fails, or announced content does not come.
    pub async fn load(&self, id: CoValueId, within: Duration) -> Result<LocalValue, LocalError> {
        let load = async {
            let line = Line::open(&self.shared).await?;
            LocalValue::load(self.clone(), line, id).await
        };
        let loaded = tokio::time::timeout(within, load).await;
        loaded.unwrap_or(Err(LocalError::NotLoaded(id, within)))
    }

    /// The content of a CoValue beyond `have`, piece by piece, and everything that is added later.
    /// A CoValue that is not found is given up as with [`Self::load`].
    ///
    /// Pieces are read from storage as the program takes them: a CoValue of any size takes a few
    /// hundred KiB. What has been added while the program was busy comes as one piece.
    pub async fn updates(&self, have: KnownState) -> Result<Updates, LocalError> {
        let mut line = Line::open(&self.shared).await?;
        let request = Request::send(&mut line, have).await?;
        Ok(Updates::new(line, request))
    }

    /// Lists up to `limit` CoValues that are stored here, in ascending order of their ids,
    /// beginning after `after`. Deleted CoValues are among them. Fewer than `limit` ids mean that
    /// there are no more.
    pub async fn ids(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, LocalError> {
        let shared = self.shared.upgrade().ok_or(LocalError::ShutDown)?;
        shared.storage.list(after, limit).await.map_err(|error| match error {
            StorageError::Closed => LocalError::ShutDown,
            error => LocalError::Storage(error),
        })
    }

    /// Waits until every upstream that the CoValue is synced with has acknowledged this much of
    /// it; at once where there is no upstream. Whether that is durable with the upstream is what
    /// its acknowledgement says: Downbeat acknowledges what is durable.
    ///
    /// [`LocalError::NotAcknowledged`] if that is not so `within` this time.
    pub async fn synced(&self, state: KnownState, within: Duration) -> Result<(), LocalError> {
        let id = state.id;
        let answer = self.ask_synced(state).await?;
        match tokio::time::timeout(within, answer).await {
            Ok(answer) => answer.map_err(|_| LocalError::ShutDown),
            Err(_) => Err(LocalError::NotAcknowledged(id, within)),
        }
    }

    /// Has the engine answer when upstreams have this much.
    async fn ask_synced(&self, state: KnownState) -> Result<oneshot::Receiver<()>, LocalError> {
        let commands = self.shared.upgrade().ok_or(LocalError::ShutDown)?.commands.clone();
        let (done, answer) = oneshot::channel();
        let asked = commands.send(Command::AwaitSynced(state, done)).await;
        asked.map_err(|_| LocalError::ShutDown)?;
        Ok(answer)
    }
}

/// What a content message brings its receiver to.
fn state_of(content: &Content) -> KnownState {
    KnownState {
        id: content.id,
        header: content.header.is_some(),
        sessions: content.sessions.iter().map(|run| (run.session.clone(), run.end())).collect(),
    }
}

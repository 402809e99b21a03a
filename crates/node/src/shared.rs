//! What the handle of a node shares with its tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use downbeat_storage::Storage;
use downbeat_sync::PeerId;
use downbeat_transport::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::connection;
use crate::context::NodeContext;
use crate::ending::Cause;
use crate::engine::Command;
use crate::error::NodeError;
use crate::link::Kind;
use crate::stage::Stage;

pub(crate) struct Shared {
    pub storage: Arc<dyn Storage>,
    pub commands: mpsc::Sender<Command>,
    pub context: NodeContext,
    pub stage: watch::Sender<Stage>,
    pub next_peer: AtomicU64,
}

impl Shared {
    /// Tells the engine of a connection and starts its tasks, which end with the connection.
    pub(crate) async fn serve(
        &self,
        connection: Connection,
        kind: Kind,
    ) -> Result<JoinHandle<Cause>, NodeError> {
        let peer = PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed));
        let (link, starter) = connection::open(connection, peer, kind, self.context.clone());
        let (done, connected) = oneshot::channel();
        self.commands.send(Command::Connect(link, done)).await.map_err(|_| NodeError::ShutDown)?;
        connected.await.map_err(|_| NodeError::ShutDown)?;
        Ok(tokio::spawn(starter.run()))
    }

    pub(crate) async fn all_closed(&self) {
        // The handle itself and every listener hold one receiver; connections hold the others.
        while self.stage.receiver_count() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

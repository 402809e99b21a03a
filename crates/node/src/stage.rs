//! How far a node's shutdown has come, and when connections end because of it.

use downbeat_transport::{CloseCode, CloseReason};
use tokio::sync::watch;

/// How far the node's shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// All is well.
    Running,
    /// Nothing more is taken in; what was taken in is finished.
    Draining,
    /// Connections are closed.
    Closing,
}

/// Waits until the node's shutdown has come this far; dropping the node counts as all the way.
pub(crate) async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

/// When a connection has to end.
#[derive(Clone)]
pub(crate) struct End {
    pub stage: watch::Receiver<Stage>,
    pub close: watch::Receiver<Option<CloseReason>>,
}

impl End {
    /// Waits for the end, and tells why.
    pub(crate) async fn reached(&mut self) -> CloseReason {
        let going_away = || CloseReason::new(CloseCode::GoingAway, "the server is shutting down");
        tokio::select! {
            () = reached(&mut self.stage, Stage::Closing) => going_away(),
            close = self.close.wait_for(Option::is_some) => {
                close.ok().and_then(|close| close.clone()).unwrap_or_else(going_away)
            }
        }
    }
}

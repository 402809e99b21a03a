//! Taking connections from a listener.

use std::sync::Arc;

use downbeat_transport::Listener;
use tracing::{info, warn};

use crate::link::Kind;
use crate::shared::Shared;
use crate::stage::{Stage, reached};

/// Takes connections until the listener fails or the node shuts down.
pub(crate) async fn accept(mut listener: Box<dyn Listener>, shared: Arc<Shared>) {
    let mut stage = shared.stage.subscribe();
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = reached(&mut stage, Stage::Draining) => {
                info!(url = listener.url(), "no longer listening");
                return;
            }
        };
        match connection {
            Ok(connection) => {
                if shared.serve(connection, Kind::Client).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!(url = listener.url(), %error, "the listener has failed");
                return;
            }
        }
    }
}

//! Staying connected to an upstream server.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use downbeat_protocol::UpstreamName;
use downbeat_transport::Connector;
use tokio::time::Instant;
use tracing::warn;

use crate::ending::Cause;
use crate::link::Kind;
use crate::shared::Shared;
use crate::stage::{Stage, reached};

/// The wait after the first failure. It doubles with every failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A connection that lasts this long counts as a success, which resets the wait.
const STABLE: Duration = Duration::from_secs(10);

/// Connects, and connects again when the connection ends, until the node shuts down.
pub(crate) async fn keep_connected(
    connector: Arc<dyn Connector>,
    name: UpstreamName,
    shared: Arc<Shared>,
) {
    let mut stage = shared.stage.subscribe();
    tokio::select! {
        () = connect_for_ever(connector, name, &shared) => {}
        () = reached(&mut stage, Stage::Draining) => {}
    }
}

async fn connect_for_ever(connector: Arc<dyn Connector>, name: UpstreamName, shared: &Shared) {
    let waits = ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times();
    let mut wait = waits.build();
    loop {
        match connector.connect().await {
            Ok(connection) => {
                let started = Instant::now();
                let kind = Kind::Upstream(name.clone());
                let Ok(connected) = shared.serve(connection, kind).await else { return };
                let cause = connected.await.unwrap_or(Cause::Broken);
                warn!(
                    upstream = %name,
                    %cause,
                    "the connection to the upstream has ended"
                );
                if started.elapsed() >= STABLE {
                    wait = waits.build();
                }
            }
            Err(error) => {
                warn!(upstream = %name, %error, "no connection to the upstream");
            }
        }
        tokio::time::sleep(wait.next().unwrap_or(LONGEST_WAIT)).await;
    }
}

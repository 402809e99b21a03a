//! Clients that reconnect all at once, as after a restart of the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_transport::{Connection, Connector, TransportError};
use tokio::task::JoinSet;

use crate::client::PATIENCE;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;

/// Clients that connect at the same moment, each once. A client is connected when its WebSocket is
/// established. It fails if it then receives no frame, not even a ping.
#[derive(Debug, Clone)]
pub struct Storm {
    /// The number of clients. Each needs a file descriptor here and one in the server.
    pub clients: usize,
}

impl Default for Storm {
    fn default() -> Self {
        Self { clients: 1_000 }
    }
}

impl Storm {
    /// Runs the workload. Latency is the time from the common start until a client is connected.
    /// [`Report::seconds`] is the latency of the last client. [`Report::failed`] counts the clients
    /// that fail.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.clients == 0 {
            return Err(BenchError::Size("at least one client is needed"));
        }
        // All clients share one TLS configuration, because creating one is expensive.
        let connector = Arc::new(target.connector()?);
        let traffic = Traffic::default();
        let measurement = Measurement::start(target, &traffic)?;
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let connector = Arc::clone(&connector);
            let traffic = traffic.clone();
            clients.spawn(async move {
                let entering = enter(&*connector, &traffic, began);
                tokio::time::timeout(PATIENCE, entering)
                    .await
                    .unwrap_or(Err(TransportError::Silent { limit: PATIENCE }))
            });
        }
        let mut inside = Vec::with_capacity(self.clients);
        let mut latencies: Vec<Duration> = Vec::with_capacity(self.clients);
        let (mut failed, mut first_failure) = (0, None);
        while let Some(done) = clients.join_next().await {
            match done {
                Ok(Ok((connection, latency))) => {
                    inside.push(connection);
                    latencies.push(latency);
                }
                Ok(Err(error)) => {
                    failed += 1;
                    first_failure.get_or_insert_with(|| error.to_string());
                }
                Err(broken) => std::panic::resume_unwind(broken.into_panic()),
            }
        }
        let count = inside.len() as u64;
        let seconds = latencies.iter().max().copied().unwrap_or_default().as_secs_f64();
        let workload = format!("{} clients at once", self.clients);
        let report = measurement.finish(workload, "client", count, latencies)?;
        #[allow(clippy::cast_precision_loss, reason = "there are never 2^52 file descriptors")]
        let per_second = count as f64 / seconds.max(f64::MIN_POSITIVE);
        Ok(Report { seconds, per_second, failed, first_failure, ..report })
    }
}

async fn enter(
    connector: &dyn Connector,
    traffic: &Traffic,
    began: Instant,
) -> Result<(Connection, Duration), TransportError> {
    let mut connection = connector.connect().await?;
    let latency = began.elapsed();
    let frame = connection.receiver.receive().await?.ok_or(TransportError::Disconnected)?;
    traffic.count_received(frame.bytes);
    Ok((connection, latency))
}

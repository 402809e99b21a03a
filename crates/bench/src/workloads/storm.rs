//! Clients that come back all at once, as after a restart of the server.

use std::time::{Duration, Instant};

use downbeat_transport::{Connection, Connector, TransportError};
use tokio::task::JoinSet;

use crate::client::PATIENCE;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;

/// Clients that connect at the same moment, each once. A client is in with the first frame that it
/// receives, as the clients of the protocol see it.
#[derive(Debug, Clone)]
pub struct Storm {
    /// How many. Each needs a file descriptor here and one in the server.
    pub clients: usize,
}

impl Default for Storm {
    fn default() -> Self {
        Self { clients: 1_000 }
    }
}

impl Storm {
    /// Plays it. Latency is from the moment at which all begin to the client's first frame. Clients
    /// that get none are counted in [`Report::failed`].
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.clients == 0 {
            return Err(BenchError::Size("this needs a client at least"));
        }
        // One configuration of TLS for all, as setting it up takes longer than using it.
        let connector = std::sync::Arc::new(target.connector()?);
        let traffic = Traffic::default();
        let mut measurement = Measurement::start(target, &traffic)?;
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let connector = std::sync::Arc::clone(&connector);
            let traffic = traffic.clone();
            clients.spawn(async move {
                let entering = enter(&*connector, &traffic);
                match tokio::time::timeout(PATIENCE, entering).await {
                    Ok(entered) => entered.map(|connection| (connection, began.elapsed())),
                    Err(_) => Err(TransportError::TimedOut { what: "entering", limit: PATIENCE }),
                }
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
        measurement.stop_clock();
        let count = inside.len() as u64;
        let workload = format!("{} clients at once", self.clients);
        let report = measurement.finish(workload, "client", count, latencies)?;
        Ok(Report { failed, first_failure, ..report })
    }
}

async fn enter(connector: &dyn Connector, traffic: &Traffic) -> Result<Connection, TransportError> {
    let mut connection = connector.connect().await?;
    let frame = connection.receiver.receive().await?.ok_or(TransportError::Disconnected)?;
    traffic.count_received(frame.bytes);
    Ok(connection)
}

//! Idle clients.

use std::time::{Duration, Instant};

use crate::author::Author;
use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::load;

/// The time from the last connection to the measurement of the server's memory. The server sends
/// several pings in it, because clients expect one every 1.5 s.
const SETTLE: Duration = Duration::from_secs(5);

/// Silent connections with a subscription to the same CoValue. The report has the growth of the
/// server's memory. The clients connect one after the other, and the rate counts these connections.
/// The CPU time includes the pings afterwards.
#[derive(Debug, Clone)]
pub struct Idle {
    /// The number of connections. Each needs a file descriptor here and one in the server.
    pub connections: usize,
}

impl Default for Idle {
    fn default() -> Self {
        Self { connections: 1_000 }
    }
}

impl Idle {
    /// Runs the workload. Latency is the time from connecting to the first answer.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.connections == 0 {
            return Err(BenchError::Size("at least one connection is needed"));
        }
        let author = Author::new(target.seed);
        let traffic = Traffic::default();
        let mut writer = Client::connect(target, &traffic).await?;
        writer.upload(author.basics()).await?;
        let mut log = author.map("watched by the idle", 0);
        writer.upload(&[log.write(&author, 1)]).await?;

        let mut measurement = Measurement::start(target, &traffic)?;
        let mut clients = Vec::with_capacity(self.connections);
        let mut latencies = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            let began = Instant::now();
            let mut client = Client::connect(target, &traffic).await?;
            client.send(load(log.id())).await?;
            client.receive(|| "a first answer".to_owned()).await?;
            latencies.push(began.elapsed());
            clients.push(client);
        }
        measurement.stop_clock();
        tokio::time::sleep(SETTLE).await;
        let report = measurement.finish(
            format!("{} idle connections", self.connections),
            "connection",
            self.connections as u64,
            latencies,
        )?;
        for client in clients {
            client.close().await;
        }
        writer.close().await;
        Ok(report)
    }
}

//! Clients that are connected and do nothing.

use std::time::{Duration, Instant};

use crate::author::Author;
use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::load;

/// How long the connections are left alone before the server's memory is looked at: several signs
/// of life of the server, which clients expect every second and a half.
const SETTLE: Duration = Duration::from_secs(5);

/// Connections that are subscribed to one CoValue, the same, and silent. What the server's memory has
/// grown by is in the report; the rate is that of connecting, one after the other, and CPU time has
/// the signs of life of the time after that in it.
#[derive(Debug, Clone)]
pub struct Idle {
    /// How many. Each needs a file descriptor here and one in the server.
    pub connections: usize,
}

impl Default for Idle {
    fn default() -> Self {
        Self { connections: 1_000 }
    }
}

impl Idle {
    /// Plays it. Latency is from connecting to the answer to a first question.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.connections == 0 {
            return Err(BenchError::Size("this needs a connection at least"));
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

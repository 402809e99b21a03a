//! Live edits, as of users who type.

use downbeat_protocol::Content;
use tokio::task::JoinSet;

use crate::author::Author;
use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::{all, send_windowed};

/// Writers with one CoValue each. A writer sends one transaction at a time, and waits for its
/// acknowledgement before the next.
#[derive(Debug, Clone)]
pub struct LiveEdits {
    /// The number of writers, with a connection each.
    pub writers: usize,
    /// The number of transactions of each writer.
    pub edits: usize,
}

impl Default for LiveEdits {
    fn default() -> Self {
        Self { writers: 100, edits: 50 }
    }
}

impl LiveEdits {
    /// Runs the workload. Latency is the time from an edit to its acknowledgement.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.writers == 0 || self.edits == 0 {
            return Err(BenchError::Size("live edits need at least one writer and one edit"));
        }
        let author = Author::new(target.seed);
        let traffic = Traffic::default();
        let mut clients = Client::connect_all(target, &traffic, self.writers).await?;
        clients[0].upload(author.basics()).await?;
        let mut edits: Vec<Vec<Content>> = Vec::with_capacity(self.writers);
        for (number, client) in clients.iter_mut().enumerate() {
            let mut log = author.map(&format!("edited {number}"), number as u64);
            client.upload(&[log.write(&author, 1)]).await?;
            edits.push((0..self.edits).map(|_| log.write(&author, 1)).collect());
        }

        let measurement = Measurement::start(target, &traffic)?;
        let mut running = JoinSet::new();
        for (mut client, edits) in clients.into_iter().zip(edits) {
            running.spawn(async move {
                let latencies = send_windowed(&mut client, edits, 1).await?;
                Ok((client, latencies))
            });
        }
        let (clients, latencies): (Vec<_>, Vec<_>) = all(running).await?.into_iter().unzip();
        let report = measurement.finish(
            format!("live edits by {} writers", self.writers),
            "edit",
            (self.writers * self.edits) as u64,
            latencies.concat(),
        )?;
        for client in clients {
            client.close().await;
        }
        Ok(report)
    }
}

//! New CoValues that are uploaded, as by clients that come online with what they made offline.

use crate::client::Client;
use crate::data_set::DataSet;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::{all, send_windowed};
use tokio::task::JoinSet;

/// Uploads CoMaps, and waits for their acknowledgements.
#[derive(Debug, Clone)]
pub struct Upload {
    /// How many.
    pub co_values: usize,
    /// Private transactions in each, under one signature.
    pub transactions: usize,
    /// Clients that do it at the same time.
    pub connections: usize,
    /// CoValues that each client is ahead of the acknowledgements, at most.
    pub window: usize,
}

impl Default for Upload {
    fn default() -> Self {
        Self { co_values: 2_000, transactions: 10, connections: 4, window: 64 }
    }
}

impl Upload {
    /// Plays it. Latency is from a CoValue's being sent to its acknowledgement.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        let data = DataSet::new(target.seed, self.co_values, self.transactions)?;
        let traffic = Traffic::default();
        let shares = data.shares(self.connections)?;
        let mut clients = Client::connect_all(target, &traffic, shares.len()).await?;
        // All clients need them acknowledged, so that nothing of theirs is held back.
        clients[0].upload(&data.basics).await?;
        let shares: Vec<Vec<_>> =
            shares.map(|share| share.iter().map(|value| value.content.clone()).collect()).collect();

        let measurement = Measurement::start(target, &traffic)?;
        let mut running = JoinSet::new();
        for (mut client, share) in clients.into_iter().zip(shares) {
            let window = self.window;
            running.spawn(async move {
                let latencies = send_windowed(&mut client, share, window).await?;
                Ok((client, latencies))
            });
        }
        let (clients, latencies): (Vec<_>, Vec<_>) = all(running).await?.into_iter().unzip();
        let report = measurement.finish(
            format!("upload of {} transactions each", self.transactions),
            "CoValue",
            self.co_values as u64,
            latencies.concat(),
        )?;
        for client in clients {
            client.close().await;
        }
        Ok(report)
    }
}

//! Clients that upload new CoValues, as after working offline.

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
    /// The number of CoValues.
    pub co_values: usize,
    /// The number of private transactions in each CoValue, with one signature.
    pub transactions: usize,
    /// The number of concurrent clients.
    pub connections: usize,
    /// The maximum number of unacknowledged CoValues of a client.
    pub window: usize,
}

impl Default for Upload {
    fn default() -> Self {
        Self { co_values: 2_000, transactions: 10, connections: 4, window: 64 }
    }
}

impl Upload {
    /// Runs the workload. Latency is the time from sending a CoValue to its acknowledgement.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        let data = DataSet::new(target.seed, self.co_values, self.transactions)?;
        let traffic = Traffic::default();
        let shares = data.shares(self.connections)?;
        let mut clients = Client::connect_all(target, &traffic, shares.len()).await?;
        // The server must have the dependencies before other content, which would wait for them
        // otherwise.
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

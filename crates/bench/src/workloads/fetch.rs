//! Clients that fetch CoValues that they do not have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{KnownState, Message};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::data_set::{DataSet, Fetched, Value};
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::{all, load};

/// Fetches the CoValues of an [`Upload`](crate::Upload) with the same seed and sizes. The first
/// fetch after a start of the server is cold, and later ones are warm.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The number of CoValues.
    pub co_values: usize,
    /// The number of transactions in each CoValue.
    pub transactions: usize,
    /// The number of clients, which fetch a part of the CoValues each.
    pub connections: usize,
    /// The maximum number of CoValues that a client waits for.
    pub window: usize,
}

impl Default for Fetch {
    fn default() -> Self {
        Self { co_values: 2_000, transactions: 10, connections: 4, window: 64 }
    }
}

impl Fetch {
    /// Runs the workload. Latency is the time from the LOAD of a CoValue to its last transaction.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        let data = Arc::new(DataSet::new(target.seed, self.co_values, self.transactions)?);
        let traffic = Traffic::default();
        let bounds: Vec<_> = data
            .shares(self.connections)?
            .scan(0, |at, share| {
                let start = *at;
                *at += share.len();
                Some(start..*at)
            })
            .collect();
        let clients = Client::connect_all(target, &traffic, bounds.len()).await?;

        let measurement = Measurement::start(target, &traffic)?;
        let mut running = JoinSet::new();
        for (mut client, range) in clients.into_iter().zip(bounds) {
            let (data, window) = (Arc::clone(&data), self.window);
            running.spawn(async move {
                let latencies = fetch(&mut client, &data.values[range], window).await?;
                Ok((client, latencies))
            });
        }
        let (clients, latencies): (Vec<_>, Vec<_>) = all(running).await?.into_iter().unzip();
        let report = measurement.finish(
            format!("fetch of {} transactions each", self.transactions),
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

async fn fetch(
    client: &mut Client,
    values: &[Value],
    window: usize,
) -> Result<Vec<Duration>, BenchError> {
    let fetched = Fetched::new(values);
    let mut latencies = Vec::with_capacity(values.len());
    let mut asked = HashMap::with_capacity(window);
    let mut next = values.iter();
    while latencies.len() < values.len() {
        while asked.len() < window.max(1) {
            let Some(value) = next.next() else { break };
            client.send(load(value.content.id)).await?;
            asked.insert(value.content.id, Instant::now());
        }
        let left = values.len() - latencies.len();
        for message in client.receive(|| format!("{left} CoValues")).await? {
            let content = match message {
                Message::Content(content) => content,
                Message::Known(known) if !known.state.header => {
                    let id = known.state.id;
                    return Err(BenchError::Wrong(format!("{id} is missing: upload it first")));
                }
                _ => continue,
            };
            if fetched.complete(&content)?
                && let Some(began) = asked.remove(&content.id)
            {
                latencies.push(began.elapsed());
            }
            let sessions =
                content.sessions.iter().map(|part| (part.session.clone(), part.end())).collect();
            client.acknowledge(KnownState { id: content.id, header: true, sessions }).await?;
        }
    }
    Ok(latencies)
}

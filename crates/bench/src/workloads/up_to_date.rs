//! Clients that come back online and lack nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use downbeat_protocol::{KnownState, Message};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::data_set::DataSet;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::all;

/// Loads the CoValues of an [`Upload`](crate::Upload) with the same seed and sizes, as clients that
/// have all of them.
#[derive(Debug, Clone)]
pub struct UpToDate {
    /// The number of CoValues.
    pub co_values: usize,
    /// The number of transactions in each CoValue.
    pub transactions: usize,
    /// The number of clients, which have a part of the CoValues each.
    pub connections: usize,
    /// The maximum number of unanswered LOAD messages of a client.
    pub window: usize,
    /// The number of rounds. Each round loads all CoValues over new connections, so the server is
    /// warm from the second round on.
    pub rounds: usize,
}

impl Default for UpToDate {
    fn default() -> Self {
        Self { co_values: 2_000, transactions: 10, connections: 4, window: 64, rounds: 1 }
    }
}

impl UpToDate {
    /// Runs the workload. Latency is the time from a LOAD to its answer.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        let data = DataSet::new(target.seed, self.co_values, self.transactions)?;
        let shares: Vec<Vec<_>> = data
            .shares(self.connections)?
            .map(|share| share.iter().map(|value| value.known.clone()).collect())
            .collect();
        let traffic = Traffic::default();
        let mut rounds = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds.max(1) {
            rounds.push(Client::connect_all(target, &traffic, shares.len()).await?);
        }

        let measurement = Measurement::start(target, &traffic)?;
        let mut latencies = Vec::new();
        let mut done = Vec::new();
        for clients in rounds {
            let mut running = JoinSet::new();
            for (mut client, share) in clients.into_iter().zip(shares.clone()) {
                let window = self.window;
                running.spawn(async move {
                    let latencies = ask(&mut client, share, window).await?;
                    Ok((client, latencies))
                });
            }
            for (client, waited) in all(running).await? {
                done.push(client);
                latencies.extend(waited);
            }
        }
        let report = measurement.finish(
            "up to date".to_owned(),
            "CoValue",
            latencies.len() as u64,
            latencies,
        )?;
        for client in done {
            client.close().await;
        }
        Ok(report)
    }
}

async fn ask(
    client: &mut Client,
    states: Vec<KnownState>,
    window: usize,
) -> Result<Vec<Duration>, BenchError> {
    let mut latencies = Vec::with_capacity(states.len());
    let total = states.len();
    let mut asked = HashMap::with_capacity(window);
    let mut next = states.into_iter();
    while latencies.len() < total {
        while asked.len() < window.max(1) {
            let Some(state) = next.next() else { break };
            client.send(Message::Load(state.clone())).await?;
            asked.insert(state.id, (state, Instant::now()));
        }
        let left = total - latencies.len();
        for message in client.receive(|| format!("{left} answers")).await? {
            let Message::Known(known) = message else { continue };
            let Some((state, began)) = asked.remove(&known.state.id) else { continue };
            if known.state != state {
                let id = state.id;
                return Err(BenchError::Wrong(format!("{id} differs: upload it first")));
            }
            latencies.push(began.elapsed());
        }
    }
    Ok(latencies)
}

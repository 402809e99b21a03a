//! A CoValue with a very long history.

use std::time::Instant;

use downbeat_protocol::{Content, KnownState, Message, SessionCounts};

use crate::author::{Author, Log};
use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::{load, send_windowed};

/// Appends small transactions to one session, several in each message.
#[derive(Debug, Clone)]
pub struct LongAppend {
    /// The number of transactions.
    pub transactions: usize,
    /// The number of transactions in each message.
    pub per_message: usize,
    /// The maximum number of unacknowledged messages.
    pub window: usize,
}

/// Loads the CoValue of a [`LongAppend`] with the same seed and sizes.
#[derive(Debug, Clone)]
pub struct LongLoad {
    /// The number of transactions.
    pub transactions: usize,
    /// The number of transactions in each uploaded message.
    pub per_message: usize,
}

impl Default for LongAppend {
    fn default() -> Self {
        Self { transactions: 100_000, per_message: 10, window: 16 }
    }
}

impl Default for LongLoad {
    fn default() -> Self {
        Self { transactions: 100_000, per_message: 10 }
    }
}

impl LongAppend {
    /// Runs the workload. Latency is the time from a message to its acknowledgement.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        let author = Author::new(target.seed);
        let (_, messages) = messages(&author, self.transactions, self.per_message)?;
        let traffic = Traffic::default();
        let mut client = Client::connect(target, &traffic).await?;
        client.upload(author.basics()).await?;

        let measurement = Measurement::start(target, &traffic)?;
        let latencies = send_windowed(&mut client, messages, self.window).await?;
        let report = measurement.finish(
            format!("append of {} transactions, {} a message", self.transactions, self.per_message),
            "transaction",
            self.transactions as u64,
            latencies,
        )?;
        client.close().await;
        Ok(report)
    }
}

impl LongLoad {
    /// Runs the workload. Latency is the time of the whole load.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        let author = Author::new(target.seed);
        let (log, _) = messages(&author, self.transactions, self.per_message)?;
        let traffic = Traffic::default();
        let mut client = Client::connect(target, &traffic).await?;

        let measurement = Measurement::start(target, &traffic)?;
        let began = Instant::now();
        client.send(load(log.id())).await?;
        let (mut have, mut signature) = (0, None);
        while have < log.count() {
            for message in client.receive(|| format!("{have} of {}", log.count())).await? {
                let Message::Content(content) = message else { continue };
                if content.id != log.id() {
                    continue;
                }
                for part in &content.sessions {
                    if part.after != have {
                        let what = format!("{} after {have}: upload it first", part.after);
                        return Err(BenchError::Wrong(what));
                    }
                    have = part.end();
                    signature = Some(part.last_signature);
                }
                let mut sessions = SessionCounts::new();
                sessions.set(log.session(), have);
                client.acknowledge(KnownState { id: log.id(), header: true, sessions }).await?;
            }
        }
        if signature != log.signature() {
            return Err(BenchError::Wrong(
                "the end of the log differs from the written one".to_owned(),
            ));
        }
        let report = measurement.finish(
            format!("load of {} transactions", self.transactions),
            "transaction",
            self.transactions as u64,
            vec![began.elapsed()],
        )?;
        client.close().await;
        Ok(report)
    }
}

fn messages(
    author: &Author,
    transactions: usize,
    per_message: usize,
) -> Result<(Log, Vec<Content>), BenchError> {
    if transactions == 0 || per_message == 0 {
        return Err(BenchError::Size("the log and each message need at least one transaction"));
    }
    let mut log = author.map(&format!("{transactions} by {per_message}"), 0);
    let mut messages = Vec::with_capacity(transactions.div_ceil(per_message));
    let mut left = transactions;
    while left > 0 {
        let count = left.min(per_message);
        messages.push(log.write(author, count));
        left -= count;
    }
    Ok((log, messages))
}

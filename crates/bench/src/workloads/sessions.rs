//! A CoValue with sessions of many devices.

use downbeat_protocol::Content;

use crate::author::{Author, Random};
use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::send_windowed;

/// Edits of one CoValue with many sessions, each edit in one session. Every acknowledgement lists
/// the counts of all sessions.
#[derive(Debug, Clone)]
pub struct ManySessions {
    /// The number of sessions before the first measured edit.
    pub sessions: usize,
    /// The number of edits.
    pub edits: usize,
    /// The maximum number of unacknowledged edits.
    pub window: usize,
}

impl Default for ManySessions {
    fn default() -> Self {
        Self { sessions: 1_000, edits: 2_000, window: 16 }
    }
}

impl ManySessions {
    /// Runs the workload. Latency is the time from an edit to its acknowledgement.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.sessions == 0 || self.edits == 0 {
            return Err(BenchError::Size("at least one session and one edit are needed"));
        }
        let author = Author::new(target.seed);
        let name = format!("{} sessions", self.sessions);
        let mut logs: Vec<_> =
            (0..self.sessions as u64).map(|session| author.map(&name, session)).collect();
        let beginnings: Vec<Content> = logs.iter_mut().map(|log| log.write(&author, 1)).collect();
        let mut random = Random::new(target.seed);
        let edits = (0..self.edits)
            .map(|_| {
                // A remainder below 2^32 fits any usize.
                let chosen = (random.next() >> 32) as usize % logs.len();
                logs[chosen].write(&author, 1)
            })
            .collect();
        let traffic = Traffic::default();
        let mut client = Client::connect(target, &traffic).await?;
        client.upload(author.basics()).await?;
        send_windowed(&mut client, beginnings, self.window).await?;

        let measurement = Measurement::start(target, &traffic)?;
        let latencies = send_windowed(&mut client, edits, self.window).await?;
        let report = measurement.finish(
            format!("edits of a CoValue of {} sessions", self.sessions),
            "edit",
            self.edits as u64,
            latencies,
        )?;
        client.close().await;
        Ok(report)
    }
}

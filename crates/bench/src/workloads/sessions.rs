//! A CoValue that very many devices have written to.

use downbeat_protocol::Content;

use crate::author::{Author, Random};
use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::send_windowed;

/// Edits of one CoValue that has many sessions, each in one of them. Every acknowledgement says how
/// far all sessions are.
#[derive(Debug, Clone)]
pub struct ManySessions {
    /// How many sessions there are before the first edit that counts.
    pub sessions: usize,
    /// Edits.
    pub edits: usize,
    /// Edits that the client is ahead of the acknowledgements, at most.
    pub window: usize,
}

impl Default for ManySessions {
    fn default() -> Self {
        Self { sessions: 1_000, edits: 2_000, window: 16 }
    }
}

impl ManySessions {
    /// Plays it. Latency is from an edit to its acknowledgement.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.sessions == 0 || self.edits == 0 {
            return Err(BenchError::Size("this needs a session and an edit at least"));
        }
        let author = Author::new(target.seed);
        let name = format!("{} sessions", self.sessions);
        let mut logs: Vec<_> =
            (0..self.sessions as u64).map(|session| author.map(&name, session)).collect();
        let beginnings: Vec<Content> = logs.iter_mut().map(|log| log.write(&author, 1)).collect();
        let mut random = Random::new(target.seed);
        let edits = (0..self.edits)
            .map(|_| {
                // The remainder of fewer than 2^32 fits any usize.
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

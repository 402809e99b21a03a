//! A large file, as a binary stream.

use std::time::{Duration, Instant};

use downbeat_protocol::{KnownState, Message, SessionCounts};
use tokio::task::JoinSet;

use crate::author::{Author, Log};
use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::{all, load, send_windowed};

/// The length of the changes in one transaction. Clients cut files into chunks of 100 KiB.
const CHUNK: usize = 100 << 10;

/// The decimal megabyte, the unit of throughput.
const MEGABYTE: usize = 1_000_000;

/// One client uploads a binary stream, a chunk in each message.
#[derive(Debug, Clone)]
pub struct StreamUp {
    /// The size of the stream in MB.
    pub megabytes: usize,
    /// The maximum number of unacknowledged chunks.
    pub window: usize,
}

/// Several clients download the stream of a [`StreamUp`] with the same seed and size.
#[derive(Debug, Clone)]
pub struct StreamDown {
    /// The size of the stream in MB.
    pub megabytes: usize,
    /// The number of concurrent clients.
    pub clients: usize,
}

impl Default for StreamUp {
    fn default() -> Self {
        Self { megabytes: 100, window: 16 }
    }
}

impl Default for StreamDown {
    fn default() -> Self {
        Self { megabytes: 100, clients: 4 }
    }
}

impl StreamUp {
    /// Runs the workload. Latency is the time from sending a chunk to its acknowledgement.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        let author = Author::new(target.seed);
        let mut log = stream(&author, self.megabytes);
        let chunks =
            (0..chunks(self.megabytes)?).map(|_| log.write_sized(&author, 1, CHUNK)).collect();
        let traffic = Traffic::default();
        let mut client = Client::connect(target, &traffic).await?;
        client.upload(author.basics()).await?;

        let measurement = Measurement::start(target, &traffic)?;
        let latencies = send_windowed(&mut client, chunks, self.window).await?;
        let name = format!("{} MB stream up", self.megabytes);
        let report = measurement.finish(name, "MB", self.megabytes as u64, latencies)?;
        client.close().await;
        Ok(report)
    }
}

impl StreamDown {
    /// Runs the workload. Latency is the time from a client's LOAD to the last chunk.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.clients == 0 {
            return Err(BenchError::Size("a download needs at least one client"));
        }
        let author = Author::new(target.seed);
        let log = stream(&author, self.megabytes);
        let count = chunks(self.megabytes)? as u64;
        let traffic = Traffic::default();
        let clients = Client::connect_all(target, &traffic, self.clients).await?;

        let measurement = Measurement::start(target, &traffic)?;
        let mut running = JoinSet::new();
        for mut client in clients {
            let (id, session) = (log.id(), log.session().clone());
            running.spawn(async move {
                let began = Instant::now();
                client.send(load(id)).await?;
                let mut have = 0;
                while have < count {
                    for message in client.receive(|| format!("chunk {have} of {count}")).await? {
                        let content = match message {
                            Message::Content(content) if content.id == id => content,
                            Message::Known(known) if !known.state.header => {
                                let what = format!("{id} is missing: upload it first");
                                return Err(BenchError::Wrong(what));
                            }
                            _ => continue,
                        };
                        for part in &content.sessions {
                            if part.after != have || part.session != session {
                                let what = format!("{} after {have} of {count}", part.after);
                                return Err(BenchError::Wrong(what));
                            }
                            have = part.end();
                        }
                        let mut sessions = SessionCounts::new();
                        sessions.set(&session, have);
                        client.acknowledge(KnownState { id, header: true, sessions }).await?;
                    }
                }
                Ok((client, began.elapsed()))
            });
        }
        let (clients, latencies): (Vec<_>, Vec<Duration>) = all(running).await?.into_iter().unzip();
        let report = measurement.finish(
            format!("{} MB stream down to {} clients", self.megabytes, self.clients),
            "MB",
            (self.megabytes * self.clients) as u64,
            latencies,
        )?;
        for client in clients {
            client.close().await;
        }
        Ok(report)
    }
}

fn stream(author: &Author, megabytes: usize) -> Log {
    author.stream(&format!("{megabytes} MB"))
}

fn chunks(megabytes: usize) -> Result<usize, BenchError> {
    if megabytes == 0 {
        return Err(BenchError::Size("a stream needs at least one megabyte"));
    }
    Ok((megabytes * MEGABYTE).div_ceil(CHUNK))
}

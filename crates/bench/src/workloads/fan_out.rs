//! One writer, many readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use downbeat_protocol::{KnownState, Message, SessionCounts, SessionId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::author::Author;
use crate::client::{Client, PATIENCE};
use crate::error::BenchError;
use crate::measurement::{Measurement, Traffic};
use crate::report::Report;
use crate::target::Target;
use crate::workloads::{all, load};

/// One CoValue with many subscribers, which all receive every edit. The next edit is written after
/// all subscribers have received the previous one.
#[derive(Debug, Clone)]
pub struct FanOut {
    /// The number of subscribers, with a connection each.
    pub subscribers: usize,
    /// The number of edits.
    pub edits: usize,
}

impl Default for FanOut {
    fn default() -> Self {
        Self { subscribers: 100, edits: 200 }
    }
}

/// The state that the writer and the subscribers share.
struct Round {
    /// The time at which the current edit was sent, and its number.
    edit: watch::Sender<(u64, Instant)>,
    /// The number of subscribers that have not received it.
    waiting: AtomicUsize,
    done: Notify,
}

impl FanOut {
    /// Runs the workload. Latency is the time from sending an edit to its arrival at a subscriber.
    pub async fn run(&self, target: &Target) -> Result<Report, BenchError> {
        if self.subscribers == 0 || self.edits == 0 {
            return Err(BenchError::Size("a fan-out needs at least one subscriber and one edit"));
        }
        let author = Author::new(target.seed);
        let traffic = Traffic::default();
        let mut writer = Client::connect(target, &traffic).await?;
        writer.upload(author.basics()).await?;
        let mut log = author.map(&format!("watched by {}", self.subscribers), 0);
        writer.upload(&[log.write(&author, 1)]).await?;
        let first = log.count();
        let edits: Vec<_> = (0..self.edits).map(|_| log.write(&author, 1)).collect();

        let round = Arc::new(Round {
            edit: watch::Sender::new((first, Instant::now())),
            waiting: AtomicUsize::new(self.subscribers),
            done: Notify::new(),
        });
        let mut running = JoinSet::new();
        for _ in 0..self.subscribers {
            let mut client = Client::connect(target, &traffic).await?;
            client.send(load(log.id())).await?;
            let (round, session) = (Arc::clone(&round), log.session().clone());
            let last = first + self.edits as u64;
            running.spawn(async move {
                let latencies = subscribe(&mut client, &session, (first, last), &round).await?;
                Ok((client, latencies))
            });
        }
        // Loading the initial state counts as the first round.
        round.all_have_it(&mut running).await?;

        let measurement = Measurement::start(target, &traffic)?;
        for (content, number) in edits.into_iter().zip(first + 1..) {
            round.waiting.store(self.subscribers, Ordering::Relaxed);
            round.edit.send_replace((number, Instant::now()));
            writer.send(Message::Content(content)).await?;
            round.all_have_it(&mut running).await?;
        }
        let report = measurement.finish(
            format!("fan-out to {} subscribers", self.subscribers),
            "delivery",
            (self.subscribers * self.edits) as u64,
            Vec::new(),
        )?;
        let (clients, latencies): (Vec<_>, Vec<_>) = all(running).await?.into_iter().unzip();
        for client in clients.into_iter().chain([writer]) {
            client.close().await;
        }
        Ok(Report { latency: crate::report::Latency::of(latencies.concat()), ..report })
    }
}

impl Round {
    /// Waits until every subscriber has received the current edit.
    async fn all_have_it(
        &self,
        subscribers: &mut JoinSet<Result<(Client, Vec<Duration>), BenchError>>,
    ) -> Result<(), BenchError> {
        let done = async {
            while self.waiting.load(Ordering::Acquire) > 0 {
                self.done.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, done).await.is_ok() {
            return Ok(());
        }
        // The error of a failed subscriber is more precise.
        while let Some(ended) = subscribers.try_join_next() {
            if let Ok(Err(error)) = ended {
                return Err(error);
            }
        }
        let left = self.waiting.load(Ordering::Relaxed);
        Err(BenchError::Silent(PATIENCE, format!("{left} subscribers miss an edit")))
    }

    fn one_has_it(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

/// Receives all edits, and returns the latencies of all edits after the first.
async fn subscribe(
    client: &mut Client,
    session: &SessionId,
    (first, last): (u64, u64),
    round: &Round,
) -> Result<Vec<Duration>, BenchError> {
    let mut latencies = Vec::new();
    let mut have = 0;
    while have < last {
        for message in client.receive(|| format!("transaction {have} of {last}")).await? {
            let Message::Content(content) = message else { continue };
            let mut sessions = SessionCounts::new();
            for part in &content.sessions {
                sessions.set(&part.session, part.end());
            }
            let now = sessions.get(session);
            client.acknowledge(KnownState { id: content.id, header: true, sessions }).await?;
            if now <= have {
                continue;
            }
            let (number, sent) = *round.edit.borrow();
            if now != number {
                let id = content.id;
                return Err(BenchError::Wrong(format!("{id} is at {now} instead of {number}")));
            }
            if now > first {
                latencies.push(sent.elapsed());
            }
            have = now;
            round.one_has_it();
        }
    }
    Ok(latencies)
}

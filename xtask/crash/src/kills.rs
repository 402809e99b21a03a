//! The crash test: kills the server at random times. Afterwards the server must have all
//! acknowledged content, and no content that no client has written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use downbeat_protocol::{CoValueId, KnownState};
use fastrand::Rng;
use tokio::task::JoinSet;

use crate::client::{AUTHORS, Author, Shared};
use crate::copies::Copies;
use crate::data_dir::{DataDir, Kind};
use crate::forger::forge;
use crate::server::Program;
use crate::truth::Truth;

/// The longest life of a server after it listens.
const MAX_LIFE: Duration = Duration::from_millis(700);

/// The longest life of a server that is killed during its start.
const MAX_START: Duration = Duration::from_millis(80);

/// Percentage of servers that are killed during their start.
const KILLED_AT_START: u32 = 15;

/// The number of kills between direct checks of the store, without a server.
const LOOK_EVERY: u64 = 5;

/// CoValues without new writes that are checked as well.
const SAMPLE: usize = 32;

/// The time without a message after which the server counts as finished.
const SILENCE: Duration = Duration::from_secs(20);

/// A run of kills.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) binary: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) kills: u64,
    /// Options of the server.
    pub(crate) options: Vec<String>,
}

/// The state of a run.
struct State {
    seed: u64,
    program: Program,
    truth: Truth,
    authors: Vec<Author>,
    shared: Shared,
    rng: Rng,
    /// The last known state of the server.
    server: BTreeMap<CoValueId, KnownState>,
    starts: Vec<Duration>,
}

impl Run {
    /// Runs the test, and prints the result.
    pub(crate) async fn run(&self) -> Result<()> {
        let began = Instant::now();
        let place = DataDir::new(self.kind)?;
        let truth = Truth::default();
        let shared = Shared::default();
        let authors = (0..AUTHORS).map(|number| Author::new(self.seed, number, &truth, &shared));
        let mut state = State {
            seed: self.seed,
            program: place.program(&self.binary).with_options(&self.options),
            authors: authors.collect(),
            shared,
            rng: Rng::with_seed(self.seed),
            server: BTreeMap::new(),
            starts: Vec::new(),
            truth,
        };
        for kill in 1..=self.kills {
            state.round().await.with_context(|| format!("at kill {kill}"))?;
            if kill % LOOK_EVERY == 0 {
                let storage = place.open()?;
                let copies = Copies::read_all(&state.truth, &*storage).await;
                storage.close().await?;
                copies
                    .and_then(|copies| copies.check(&state.truth.ids()))
                    .with_context(|| format!("in the storage, after kill {kill}"))?;
            }
            state.check(kill == self.kills).await.with_context(|| format!("after kill {kill}"))?;
            ensure!(began.elapsed() < Duration::from_hours(1), "the run takes too long");
        }
        state.tell(self, began.elapsed());
        Ok(())
    }
}

impl State {
    /// Runs the server for some time, and kills it.
    async fn round(&mut self) -> Result<()> {
        let mut server = self.program.spawn()?;
        if self.rng.u32(..100) < KILLED_AT_START {
            let moment = random_time(&mut self.rng, MAX_START);
            let ended = tokio::time::timeout(moment, server.listening()).await;
            if let Ok(Ok(Err(refusal))) = ended {
                anyhow::bail!("the store does not open: {refusal}");
            }
            return server.kill().await;
        }
        let (url, time) = match server.listening().await? {
            Ok(listening) => listening,
            Err(refusal) => anyhow::bail!("the store does not open: {refusal}"),
        };
        self.starts.push(time);
        let mut writing = JoinSet::new();
        for mut author in std::mem::take(&mut self.authors) {
            let (url, has) = (url.clone(), self.server.clone());
            writing.spawn(async move {
                let result = author.write(&url, has, None).await;
                (author, result)
            });
        }
        let forging =
            tokio::spawn(forge(self.seed, self.rng.fork(), Arc::clone(&self.shared), url));
        tokio::time::sleep(random_time(&mut self.rng, MAX_LIFE)).await;
        server.kill().await?;
        forging.await??;
        // Messages that the server sent before the kill still arrive.
        while let Some(done) = writing.join_next().await {
            let (author, result) = done?;
            self.authors.push(author);
            result?;
        }
        self.authors.sort_by_key(Author::number);
        Ok(())
    }

    /// Starts the server again, and checks the CoValues with new writes and a sample of the others.
    /// The last check covers everything. Kills the server as well.
    async fn check(&mut self, is_last: bool) -> Result<()> {
        let (mut server, url, time) =
            self.program.start().await.context("the store does not open")?;
        self.starts.push(time);
        let mut ids = self.truth.take_touched();
        ids.extend(self.rng.choose_multiple(self.truth.ids(), SAMPLE));
        if is_last {
            ids = self.truth.ids();
        }
        let copies = Copies::load(&self.truth, &url, &ids, SILENCE).await?;
        copies.check(&ids)?;
        self.server.extend(copies.states());
        server.kill().await
    }

    fn tell(&self, run: &Run, time: Duration) {
        let sizes = self.truth.sizes();
        println!(
            "{} kills of {} in {:.0} s: no acknowledged content was lost, and no other content was stored",
            run.kills,
            run.kind,
            time.as_secs_f64()
        );
        println!(
            "    {} CoValues, {} of them deleted; {} transactions written, {} acknowledged",
            sizes.co_values, sizes.deleted, sizes.written, sizes.acknowledged
        );
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        let at = |part: usize| starts.get((starts.len() * part / 100).min(starts.len() - 1));
        if let (Some(median), Some(most)) = (at(50), at(100)) {
            let count = starts.len();
            println!(
                "    {count} starts until it listened: median {median:.0?}, longest {most:.0?}"
            );
        }
    }
}

fn random_time(rng: &mut Rng, most: Duration) -> Duration {
    most.mul_f64(rng.f64())
}

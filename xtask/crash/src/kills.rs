//! The crash test: the server is killed at random moments, and has to have everything afterwards
//! that it had acknowledged, and nothing that nobody wrote.

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
use crate::liar::lie;
use crate::places::{Kind, Place};
use crate::server::Program;
use crate::truth::Truth;

/// The longest life of a server that writes, from the moment on at which it listens.
const MAX_LIFE: Duration = Duration::from_millis(700);

/// The longest life of a server that is killed while it starts.
const MAX_START: Duration = Duration::from_millis(80);

/// How often in a hundred a server is killed while it starts.
const KILLED_AT_START: u32 = 15;

/// After so many kills, the storage is looked into before the server has it again.
const LOOK_EVERY: u64 = 5;

/// CoValues that are checked although nobody has written to them since the last time.
const SAMPLE: usize = 32;

/// How long the server may say nothing before it is taken to have said everything.
const SILENCE: Duration = Duration::from_secs(20);

/// A run of kills.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) binary: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) kills: u64,
    /// For the server.
    pub(crate) options: Vec<String>,
}

/// What there is at any time in a run.
struct State {
    seed: u64,
    program: Program,
    truth: Truth,
    authors: Vec<Author>,
    shared: Shared,
    rng: Rng,
    /// What the server has, as it last said.
    server: BTreeMap<CoValueId, KnownState>,
    starts: Vec<Duration>,
}

impl Run {
    /// Runs, and tells what came out.
    pub(crate) async fn run(&self) -> Result<()> {
        let began = Instant::now();
        let place = Place::new(self.kind)?;
        let truth = Truth::default();
        let shared = Shared::default();
        let authors = (0..AUTHORS).map(|number| Author::new(self.seed, number, &truth, &shared));
        let mut state = State {
            seed: self.seed,
            program: Program { options: self.options.clone(), ..place.program(&self.binary) },
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
    /// Lets the server live for a while, and kills it.
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
        let lying = tokio::spawn(lie(self.seed, self.rng.fork(), Arc::clone(&self.shared), url));
        tokio::time::sleep(random_time(&mut self.rng, MAX_LIFE)).await;
        server.kill().await?;
        lying.await??;
        // What the server had said before it died arrives all the same.
        while let Some(done) = writing.join_next().await {
            let (author, result) = done?;
            self.authors.push(author);
            result?;
        }
        self.authors.sort_by_key(Author::number);
        Ok(())
    }

    /// Starts the server again, and checks what it serves: all that was written to, and some of
    /// the rest; in the end everything. It is killed as well.
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
            "{} kills of {} in {:.0} s: nothing acknowledged was lost, and nothing is there that \
             nobody wrote",
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

//! Cuts a recording at many calls, and checks the store as a disk may hold it after each.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use downbeat_storage::Outcome as Stored;
use downbeat_storage::conformance::{Author, CoValueFixture};
use fastrand::Rng;
use tempfile::TempDir;

use super::disk::Disk;
use super::image::{self, Kept};
use super::recording::{Call, Recording};
use super::{DATA, Recorded};
use crate::copies::Copies;
use crate::data_dir::Kind;
use crate::truth::Truth;

/// Files in memory, where images are written and opened much faster.
const IN_MEMORY: &str = "/dev/shm";

/// The files that hold content. A lying disk ignores their flushes.
const CONTENT: [&str; 3] = ["db", ".db-wal", ".db"];

/// Failures that are printed.
const TOLD: usize = 12;

/// Transactions that are written after a power failure.
const WRITTEN_AFTERWARDS: u64 = 3;

/// Power failures during one recording.
pub(super) struct Trial<'a> {
    recorded: &'a Recorded,
    seed: u64,
    cuts: usize,
    mode: Mode,
    is_lying: bool,
    may_lose: Duration,
}

/// The choice of places and of surviving changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// All kinds of places and every choice in turn. The power sometimes fails again while a server
    /// opens the store. Failures are printed as they are found.
    Full,
    /// The same without second power failures.
    Once,
    /// Where flushes begin, and nothing survives that is not flushed.
    LosingMost,
}

/// The part of the power failures that is followed by another one.
const RECOVERY_EVERY: usize = 6;

/// Power failures during one recovery.
const RECOVERY_CUTS: usize = 4;

/// The result of a trial.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) cuts: usize,
    pub(super) images: usize,
    /// Images after a second power failure.
    pub(super) nested: usize,
    pub(super) failures: Vec<Failure>,
    pub(super) calls: usize,
    pub(super) flushes: usize,
    pub(super) overwrites: usize,
}

/// An image that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The number of the call before the power failure.
    call: usize,
    what: String,
    kept: Kept,
    error: anyhow::Error,
}

/// The calls of a recording by kind.
#[derive(Default)]
struct Calls {
    all: usize,
    /// Calls before the first acknowledgement.
    first: usize,
    flushes: Vec<usize>,
    /// The calls that begin a flush.
    begins: Vec<usize>,
    overwrites: Vec<usize>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(recorded: &'a Recorded, seed: u64, cuts: usize, mode: Mode) -> Self {
        Self { recorded, seed, cuts, mode, is_lying: false, may_lose: Duration::ZERO }
    }

    /// The disk ignores the flushes of content.
    pub(super) fn on_a_lying_disk(self) -> Self {
        Self { is_lying: true, ..self }
    }

    /// Content that was acknowledged this shortly before the power failure may be lost.
    pub(super) fn may_lose(self, may_lose: Duration) -> Self {
        Self { may_lose, ..self }
    }

    pub(super) async fn run(&self) -> Result<Outcome> {
        let mut rng = Rng::with_seed(self.seed);
        let calls = self.read_calls()?;
        let cuts = self.choose(&calls, &mut rng);
        let mut outcome = Outcome {
            cuts: cuts.len(),
            calls: calls.all,
            flushes: calls.begins.len(),
            overwrites: calls.overwrites.len(),
            ..Outcome::default()
        };
        let judge = match self.recorded.base {
            Some(_) => self.recorded.truth.copy(),
            None => self.recorded.truth.unacknowledged(),
        };
        let mut acknowledged = self.recorded.truth.journal().into_iter().peekable();
        let mut recent = VecDeque::new();
        let mut cut = 0;
        let mut disk = self.disk()?;
        let mut recording = Recording::open(&self.recorded.log())?;
        for call in 0.. {
            let Some(record) = recording.next()? else { break };
            let is_cut = cuts.contains(&call);
            let what = if is_cut { describe(&record.call) } else { String::new() };
            disk.make(record.call)?;
            while let Some((_, state)) = acknowledged.next_if(|(at, _)| *at <= record.end) {
                recent.push_back((record.time, state));
            }
            if !is_cut {
                continue;
            }
            let due = |(time, _): &mut (Duration, _)| *time + self.may_lose <= record.time;
            while let Some((_, state)) = recent.pop_front_if(due) {
                judge.acknowledge(&state)?;
            }
            let all = Kept::all(&mut rng);
            for kept in all.into_iter().take(if self.loses_most() { 1 } else { all.len() }) {
                outcome.images += 1;
                let result = self.check(&disk, kept, &judge, &mut rng).await;
                if let Err(error) = result {
                    let failure = Failure { call, what: what.clone(), kept, error };
                    if !self.loses_most() && outcome.failures.len() < TOLD {
                        println!("    FAILED: {failure}");
                    }
                    outcome.failures.push(failure);
                }
            }
            if self.mode == Mode::Full {
                cut += 1;
                if cut % RECOVERY_EVERY == 1 {
                    let nested = self.cut_recovery(&disk, &judge, &mut rng).await;
                    let nested = nested.with_context(|| format!("after call {call} ({what})"))?;
                    outcome.images += nested.images;
                    outcome.nested += nested.images;
                    outcome.failures.extend(nested.failures);
                }
            }
        }
        Ok(outcome)
    }

    /// Lets the power fail again while a server opens the store after this power failure.
    async fn cut_recovery(&self, disk: &Disk, judge: &Truth, rng: &mut Rng) -> Result<Outcome> {
        let [.., calls, sectors] = Kept::all(rng);
        let kept = if rng.bool() { calls } else { sectors };
        let recovery = self.recorded.record_recovery(disk, kept, judge, rng).await?;
        let trial = Trial::new(&recovery, rng.u64(..), RECOVERY_CUTS, Mode::Once);
        Box::pin(trial.run()).await.context("during the opening of a store")
    }

    fn loses_most(&self) -> bool {
        self.mode == Mode::LosingMost
    }

    fn disk(&self) -> Result<Disk> {
        let mut disk = self.recorded.disk()?;
        if self.is_lying {
            disk.lie(&CONTENT);
        }
        Ok(disk)
    }

    fn read_calls(&self) -> Result<Calls> {
        let first = self.recorded.truth.journal().first().map_or(0, |(at, _)| *at);
        let mut calls = Calls::default();
        let mut disk = self.disk()?;
        let mut recording = Recording::open(&self.recorded.log())?;
        while let Some(record) = recording.next()? {
            if let Call::FlushBegins { .. } = record.call {
                calls.begins.push(calls.all);
            }
            match record.call {
                Call::FlushBegins { .. } | Call::FlushEnds { .. } => calls.flushes.push(calls.all),
                _ if disk.is_overwriting(&record.call) => calls.overwrites.push(calls.all),
                _ => {}
            }
            disk.make(record.call)?;
            calls.all += 1;
            if record.end <= first {
                calls.first = calls.all;
            }
        }
        ensure!(calls.all > 0, "the recorder has recorded nothing");
        Ok(calls)
    }

    /// Chooses calls: a quarter each before the first acknowledgement, beside flushes, beside writes
    /// over older content, and anywhere. To lose most, chooses the begins of flushes
    /// after the first acknowledgement.
    fn choose(&self, calls: &Calls, rng: &mut Rng) -> BTreeSet<usize> {
        if self.loses_most() {
            return rng
                .choose_multiple(calls.begins.iter().copied(), self.cuts)
                .into_iter()
                .collect();
        }
        let mut cuts = BTreeSet::new();
        for number in 0..self.cuts {
            let beside = |some: &[usize], rng: &mut Rng| {
                let call = rng.choice(some.iter().copied()).unwrap_or(0);
                (call + rng.usize(..3)).saturating_sub(1).min(calls.all - 1)
            };
            cuts.insert(match number % 4 {
                0 => rng.usize(..=calls.first),
                1 => beside(&calls.flushes, rng),
                2 => beside(&calls.overwrites, rng),
                _ => rng.usize(..calls.all),
            });
        }
        cuts
    }

    async fn check(&self, disk: &Disk, kept: Kept, judge: &Truth, rng: &mut Rng) -> Result<()> {
        let dir = fast_dir()?;
        image::write(disk, kept, rng, dir.path()).context("cannot write an image")?;
        let data = dir.path().join(DATA);
        let result = check_store(self.recorded.kind, &data, judge).await;
        if result.is_err() && std::env::var_os(KEEP).is_some() && !self.loses_most() {
            println!("    kept {}", dir.keep().display());
        }
        result
    }
}

/// A temporary directory in memory, if there are any.
pub(super) fn fast_dir() -> Result<TempDir> {
    let in_memory = TempDir::new_in(IN_MEMORY).or_else(|_| tempfile::tempdir());
    in_memory.context("cannot make a temporary directory")
}

/// If this variable is set, images that fail are kept.
const KEEP: &str = "DOWNBEAT_KEEP_IMAGES";

/// Checks that a store opens, has all acknowledged content and nothing else, and goes on.
async fn check_store(kind: Kind, data: &Path, judge: &Truth) -> Result<()> {
    let storage = kind.open(data).context("the store does not open")?;
    Copies::read_all(judge, &*storage).await?.check(&judge.ids())?;
    let (new, mut author) = (CoValueFixture::new(1), Author::new(1));
    let write = new.create((0..WRITTEN_AFTERWARDS).map(|_| author.write(1, 2_000)).collect());
    let outcomes = storage.append(vec![write]).await.context("the store takes no content")?;
    ensure!(outcomes.iter().all(Stored::is_complete), "the store does not take all content");
    storage.close().await.context("the store cannot be closed")?;
    drop(storage);

    let storage = kind.open(data).context("the store does not open again")?;
    let stored = storage.load(new.id).await?.context("new content is missing")?;
    let count: u64 = stored.sessions.iter().map(|session| session.count).sum();
    ensure!(count == WRITTEN_AFTERWARDS, "{count} of {WRITTEN_AFTERWARDS} new transactions");
    storage.close().await.context("the store cannot be closed again")
}

fn describe(call: &Call) -> String {
    match call {
        Call::Write { fd, offset, data } => format!("write {fd} at {offset}, {} bytes", data.len()),
        call => format!("{call:?}"),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, what, kept, error } = self;
        write!(f, "after call {call} ({what}), {kept:?} kept: {error:#}")
    }
}

//! Power failures: records the calls of a server that change and flush its files, and checks the
//! store in directories as a disk may hold them after a power failure at many of these calls.

mod disk;
mod image;
mod recording;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::disk::Disk;
use self::image::Kept;
use self::recording::Recording;
use self::trial::{Mode, Outcome, Trial};
use crate::client::{AUTHORS, Author, Shared};
use crate::data_dir::Kind;
use crate::kills::Run;
use crate::truth::Truth;

/// The directory of the store below the recorded directory. The server creates all of them.
const DATA: &str = "var/lib/downbeat";

/// Times that the recorded server is started and ended.
const LIVES: usize = 3;

/// Power failures for each test of this test.
const BITE_CUTS: usize = 24;

/// Steps of each author in each life of a server with `--durability relaxed`. Enough for several
/// of its flushes.
const RELAXED_STEPS: usize = 150;

/// Time before a power failure within which a server with `--durability relaxed` may lose content.
/// Longer than the promised time, because a flush takes long on a busy machine.
const RELAXED_LOSS: Duration = Duration::from_secs(2);

/// The work of a recording.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Places at which the power fails.
    pub(crate) cuts: usize,
    /// Steps of each author in each life of the server.
    pub(crate) steps: usize,
}

/// A server's calls and acknowledgements.
pub(crate) struct Recorded {
    kind: Kind,
    /// Removed when this is dropped.
    dir: TempDir,
    root: PathBuf,
    truth: Truth,
    /// What the recorded directory held at the start, and all of `truth` that was acknowledged by
    /// then. Absent if it was empty.
    base: Option<PathBuf>,
    binary: PathBuf,
}

/// Runs the test for a kind of storage, and prints the result. Fails as well if the test does not
/// find the losses of a disk that ignores flushes, or of a server that acknowledges too early.
pub(crate) async fn run(run: &Run, extent: Extent) -> Result<()> {
    let began = Instant::now();
    let recorded = Recorded::record(run, extent.steps).await?;
    let recording = began.elapsed();
    let outcome = recorded.trial(run.seed, extent.cuts, Mode::Full).run().await?;
    outcome.tell(&recorded, recording, began.elapsed());
    outcome.require_no_failure()?;

    let lied =
        recorded.trial(run.seed, BITE_CUTS, Mode::LosingMost).on_a_lying_disk().run().await?;
    lied.require_failures("if flushes of content are ignored")?;

    let mut early = run.clone();
    early.options.push("--durability=relaxed".to_owned());
    let early = Recorded::record(&early, RELAXED_STEPS).await?;
    let judged_as_safe = early.trial(run.seed, BITE_CUTS, Mode::LosingMost).run().await?;
    judged_as_safe.require_failures("with `--durability relaxed`, judged as `safe`")?;
    let relaxed =
        early.trial(run.seed, BITE_CUTS, Mode::LosingMost).may_lose(RELAXED_LOSS).run().await?;
    relaxed.require_no_failure().context("with `--durability relaxed`")
}

impl Recorded {
    /// Runs a server several times with several clients, and records it.
    async fn record(run: &Run, steps: usize) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let path = dir.path().canonicalize()?;
        let (root, log) = (path.join("disk"), path.join("log"));
        fs::create_dir(&root)?;
        let library = recording::build_recorder(&path)?;
        let mut program =
            run.kind.program(&run.binary, &root.join(DATA)).with_options(&run.options);
        program.wrapper = recording::wrapper(&library, &root, &log);
        let (truth, shared) = (Truth::with_journal(log.clone()), Shared::default());
        let mut authors: Vec<_> =
            (0..AUTHORS).map(|number| Author::new(run.seed, number, &truth, &shared)).collect();
        for life in 1..=LIVES {
            let (mut server, url, _) = program.start().await?;
            let known: BTreeMap<_, _> = if life == 1 {
                BTreeMap::new()
            } else {
                let ids = truth.ids();
                ids.iter().filter_map(|id| Some((*id, truth.known_state(*id)?))).collect()
            };
            let mut writing = JoinSet::new();
            for mut author in std::mem::take(&mut authors) {
                let (url, known) = (url.clone(), known.clone());
                writing.spawn(async move {
                    let result = author.write(&url, known, Some(steps)).await;
                    (author, result)
                });
            }
            for (author, result) in writing.join_all().await {
                result?;
                authors.push(author);
            }
            authors.sort_by_key(Author::number);
            server.stop().await?;
        }
        let binary = run.binary.clone();
        let recorded = Self { kind: run.kind, dir, root, truth, base: None, binary };
        recorded.compare_with_files().context("the recording is not complete")?;
        Ok(recorded)
    }

    /// Starts and stops a server on the files that a power failure has left, and records it.
    async fn record_recovery(
        &self,
        disk: &Disk,
        kept: Kept,
        judge: &Truth,
        rng: &mut Rng,
    ) -> Result<Self> {
        let dir = trial::fast_dir()?;
        let path = dir.path().canonicalize()?;
        let (root, base, log) = (path.join("disk"), path.join("base"), path.join("log"));
        image::write(disk, kept, &mut rng.clone(), &root)?;
        image::write(disk, kept, rng, &base)?;
        let library = recording::build_recorder(&path)?;
        let mut program = self.kind.program(&self.binary, &root.join(DATA));
        program.wrapper = recording::wrapper(&library, &root, &log);
        let (mut server, ..) = program.start().await?;
        server.stop().await?;
        let (kind, truth, binary) = (self.kind, judge.copy(), self.binary.clone());
        let recorded = Self { kind, dir, root, truth, base: Some(base), binary };
        recorded.compare_with_files().context("the recording is not complete")?;
        Ok(recorded)
    }

    /// The recorded directory at the start.
    fn disk(&self) -> Result<Disk> {
        match &self.base {
            Some(base) => Disk::copy_of(&self.root(), base),
            None => Ok(Disk::new(&self.root())),
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn root(&self) -> String {
        self.root.display().to_string()
    }

    fn trial(&self, seed: u64, cuts: usize, mode: Mode) -> Trial<'_> {
        Trial::new(self, seed, cuts, mode)
    }

    /// Replays the whole recording. The result must be equal to the files.
    fn compare_with_files(&self) -> Result<()> {
        let mut disk = self.disk()?;
        let mut recording = Recording::open(&self.log())?;
        while let Some(record) = recording.next()? {
            disk.make(record.call)?;
        }
        let replayed = tempfile::tempdir()?;
        image::write(&disk, Kept::Everything, &mut Rng::with_seed(0), replayed.path())?;
        compare(&self.root, replayed.path())
    }
}

/// Files whose content does not matter and is not recorded: it reserves space.
const RESERVE: &str = "reserve";

fn compare(real: &Path, replayed: &Path) -> Result<()> {
    let names = |dir: &Path| -> Result<Vec<_>> {
        let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        let mut names = entries.collect::<Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    };
    let found = names(real)?;
    let dir = real.display();
    let expected = names(replayed)?;
    ensure!(found == expected, "{dir} has {found:?}, and in the recording {expected:?}");
    for name in found {
        let (real, replayed) = (real.join(&name), replayed.join(&name));
        if real.is_dir() {
            compare(&real, &replayed)?;
        } else if !name.to_string_lossy().ends_with(RESERVE) {
            ensure!(fs::read(&real)? == fs::read(&replayed)?, "{} differs", real.display());
        }
    }
    Ok(())
}

impl Outcome {
    fn require_no_failure(&self) -> Result<()> {
        match self.failures.first() {
            None => Ok(()),
            Some(failure) => bail!(
                "{} of {} images failed; the first: {failure}",
                self.failures.len(),
                self.images
            ),
        }
    }

    /// Checks that the test finds losses which are there.
    fn require_failures(&self, when: &str) -> Result<()> {
        ensure!(!self.failures.is_empty(), "the test finds no loss {when}");
        println!("    {} of {} images failed {when}", self.failures.len(), self.images);
        Ok(())
    }

    fn tell(&self, recorded: &Recorded, recording: std::time::Duration, all: std::time::Duration) {
        let sizes = recorded.truth.sizes();
        println!(
            "{} power failures of {}, {} images, in {:.0} s ({:.0} s of it recording): {} failed",
            self.cuts,
            recorded.kind,
            self.images,
            all.as_secs_f64(),
            recording.as_secs_f64(),
            self.failures.len()
        );
        println!(
            "    {} of the images after another failure while a server opened one",
            self.nested
        );
        println!(
            "    {} CoValues, {} of them deleted, {} transactions; {} calls, {} flushes, {} writes \
             over older content",
            sizes.co_values,
            sizes.deleted,
            sizes.written,
            self.calls,
            self.flushes,
            self.overwrites
        );
    }
}

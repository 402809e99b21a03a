//! A store as the tools use it: opened only if it is there, and waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId};
use downbeat_storage::{Damage, Outcome, Stats, Storage, StorageError, Stored, Write};
use downbeat_storage_sled::{SledOptions, SledStorage};
use tokio::runtime::Handle;

use crate::storage::{self, DurabilityChoice, StorageChoice};

/// How much transaction JSON is read and held at a time, so that memory does not grow with the
/// size of a CoValue. A few checkpoints, so that what one reading costs by itself does not count.
const READ_BYTES: usize = 1 << 20;

/// What sled may keep of what it has read or written. It takes a multiple of this, and an import
/// opens two stores.
const SLED_CACHE_BYTES: u64 = 16 << 20;

/// Steps over damage read one extension at a time, and this is less than any.
const ONE_EXTENSION: usize = 1;

/// A store whose methods block. Clones are the same store.
///
/// The tools' threads wait for disks and compute signatures, and have nothing else to do while
/// they wait.
#[derive(Clone)]
pub(crate) struct Store {
    storage: Arc<dyn Storage>,
    runtime: Handle,
}

impl Store {
    /// Opens a store that is there already: whoever only reads must not make one by mistake.
    pub(crate) fn open_existing(choice: &StorageChoice, runtime: &Handle) -> anyhow::Result<Self> {
        match choice {
            StorageChoice::Memory => {
                bail!("there is nothing in `memory`, which ends with the process")
            }
            StorageChoice::Sled(dir) => require_sled(dir)?,
            StorageChoice::Sqlite(file) => require_sqlite(file)?,
        }
        Self::open(choice, runtime)
    }

    /// Opens a store, or makes an empty one.
    pub(crate) fn open(choice: &StorageChoice, runtime: &Handle) -> anyhow::Result<Self> {
        if *choice == StorageChoice::Memory {
            bail!("what is written to `memory` is gone when this ends: name a store that stays");
        }
        let storage = match choice {
            StorageChoice::Sled(dir) => open_sled(dir),
            _ => runtime.block_on(storage::open(choice, DurabilityChoice::Safe)),
        };
        let storage =
            storage.map_err(explain_lock).with_context(|| format!("cannot open {choice}"))?;
        Ok(Self { storage, runtime: runtime.clone() })
    }

    /// See [`Storage::load`].
    pub(crate) fn load(&self, id: CoValueId) -> Result<Option<Stored>, StorageError> {
        self.runtime.block_on(self.storage.load(id))
    }

    /// See [`Storage::append`].
    pub(crate) fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        self.runtime.block_on(self.storage.append(batch))
    }

    /// See [`Storage::list`].
    pub(crate) fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.runtime.block_on(self.storage.list(after, limit))
    }

    /// See [`Storage::count`].
    pub(crate) fn count(&self) -> Result<u64, StorageError> {
        self.runtime.block_on(self.storage.count())
    }

    /// See [`Storage::stats`].
    pub(crate) fn stats(&self) -> Result<Stats, StorageError> {
        self.runtime.block_on(self.storage.stats())
    }

    /// See [`Storage::close`].
    pub(crate) fn close(&self) -> Result<(), StorageError> {
        self.runtime.block_on(self.storage.close())
    }

    /// Begins to read what a CoValue has beyond these counts.
    pub(crate) fn read(&self, id: CoValueId, have: SessionCounts) -> Reading<'_> {
        Reading { store: self, id, have, max_bytes: READ_BYTES, done: false }
    }

    /// Begins to read one session.
    pub(crate) fn read_session(
        &self,
        id: CoValueId,
        session: &SessionId,
    ) -> Result<Reading<'_>, StorageError> {
        let mut have = self.load(id)?.map(|stored| stored.counts()).unwrap_or_default();
        have.set(session, 0);
        Ok(self.read(id, have))
    }

    /// Begins to read one session beyond a count, one stored extension at a time.
    pub(crate) fn read_steps(
        &self,
        id: CoValueId,
        session: &SessionId,
        count: u64,
    ) -> Result<Reading<'_>, StorageError> {
        let mut reading = self.read_session(id, session)?;
        reading.have.set(session, count);
        reading.max_bytes = ONE_EXTENSION;
        Ok(reading)
    }
}

/// Reads a CoValue in bounded steps, and over what is damaged in it.
pub(crate) struct Reading<'a> {
    store: &'a Store,
    id: CoValueId,
    have: SessionCounts,
    max_bytes: usize,
    done: bool,
}

/// What a step of a [`Reading`] finds.
pub(crate) enum Step {
    /// Runs that follow what was read before.
    Runs(Vec<SessionContent>),
    /// Something that cannot be read. If it is in a session, the others are read nevertheless;
    /// if not, this is the end.
    Damage(Damage),
}

impl Reading<'_> {
    /// The next runs, or damage, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, StorageError> {
        while !self.done {
            let read = self.store.storage.read(self.id, &self.have, self.max_bytes);
            match self.store.runtime.block_on(read) {
                Ok(runs) if runs.is_empty() => self.done = true,
                Ok(runs) => {
                    for run in &runs {
                        self.have.raise(&run.session, run.end());
                    }
                    return Ok(Some(Step::Runs(runs)));
                }
                // What comes before the damage can be read by itself.
                Err(StorageError::Corrupt(_)) if self.max_bytes > ONE_EXTENSION => {
                    self.max_bytes = ONE_EXTENSION;
                }
                Err(StorageError::Corrupt(damage)) => {
                    self.max_bytes = READ_BYTES;
                    self.done = !self.step_over(&damage);
                    return Ok(Some(Step::Damage(damage)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Asks for no more of a damaged session, and tells whether that makes a difference.
    fn step_over(&mut self, damage: &Damage) -> bool {
        let Some(session) = damage.session() else { return false };
        let is_new = self.have.get(session) != u64::MAX;
        self.have.set(session, u64::MAX);
        is_new
    }
}

/// The file or directory of a store, where it has one.
pub(crate) fn path_of(choice: &StorageChoice) -> Option<&Path> {
    match choice {
        StorageChoice::Memory => None,
        StorageChoice::Sled(path) | StorageChoice::Sqlite(path) => Some(path),
    }
}

/// Whether two places are the same, by whatever names.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    resolved(a) == resolved(b)
}

/// Opens a sled store with a small cache: the tools go through a store once, from end to end.
fn open_sled(dir: &Path) -> anyhow::Result<Arc<dyn Storage>> {
    let options = SledOptions::default().with_cache_bytes(SLED_CACHE_BYTES);
    Ok(Arc::new(SledStorage::open_with(dir, options)?))
}

fn require_sled(dir: &Path) -> anyhow::Result<()> {
    /// The file by which the sled store knows its directories; see `docs/storage-format.md`.
    const FORMAT_FILE: &str = "format";

    require(dir)?;
    if !dir.is_dir() {
        bail!("there is no sled store: {} is no directory", dir.display());
    }
    if !dir.join(FORMAT_FILE).exists() {
        bail!("there is no sled store in {}", dir.display());
    }
    Ok(())
}

fn require_sqlite(file: &Path) -> anyhow::Result<()> {
    require(file)?;
    let found = file.metadata().with_context(|| format!("cannot look at {}", file.display()))?;
    if !found.is_file() {
        bail!("there is no SQLite store: {} is no file", file.display());
    }
    if found.len() == 0 {
        bail!("there is no SQLite store: {} is empty", file.display());
    }
    Ok(())
}

fn require(path: &Path) -> anyhow::Result<()> {
    if !path.try_exists().with_context(|| format!("cannot look at {}", path.display()))? {
        bail!("there is no store: {} does not exist", path.display());
    }
    Ok(())
}

/// Says what to do about a store that somebody else has open.
fn explain_lock(error: anyhow::Error) -> anyhow::Error {
    if matches!(error.downcast_ref(), Some(StorageError::Locked { .. })) {
        error.context("a server or another tool has it open: stop that first")
    } else {
        error
    }
}

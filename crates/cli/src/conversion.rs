//! The unfinished target of `downbeat convert`: a store under another name beside the target, and a
//! record of the conversion.
//!
//! The steps, each durable before the next:
//!
//! 1. `TARGET.conversion`, the record, names the conversion.
//! 2. `TARGET.unfinished` is filled, and closed.
//! 3. The record says that it is complete.
//! 4. `TARGET.unfinished` is renamed to `TARGET`.
//! 5. The record is deleted.
//!
//! The record is locked meanwhile. After a kill at any moment the files tell which step is next.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use downbeat_storage::files::FileIdentity;
use serde::{Deserialize, Serialize};

/// Suffix of the name of the store until it is complete.
const UNFINISHED: &str = ".unfinished";

/// Suffix of the name of the record.
const RECORD: &str = ".conversion";

/// Suffixes of the files that SQLite keeps beside a file, and takes for parts of it.
const COMPANIONS: [&str; 3] = ["-wal", SHARED_MEMORY, "-journal"];

/// Suffix of the file with the index of the log. It holds no content.
const SHARED_MEMORY: &str = "-shm";

/// Suffix of the file beside a SQLite file that reserves space.
const RESERVE: &str = "-reserve";

/// What makes a conversion the same when it is started again. The first line of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    /// The source, with its full path.
    pub from: String,
    /// The kind of the target.
    pub to: String,
    /// The format of a SQLite target; `None` for the default.
    pub storage_format: Option<String>,
    /// Whether signatures are checked.
    pub verify: bool,
}

/// The end of step 2. The second line of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Completed {
    /// Problems of the source that were listed.
    pub problems: u64,
}

/// What there is of a target.
pub(crate) enum Target {
    /// Nothing.
    Missing,
    /// A part of it, from an interrupted conversion.
    Unfinished(Unfinished),
    /// All of it, perhaps not under its name yet.
    Complete(Unfinished, Completed),
}

/// The locked record of a conversion.
#[derive(Debug)]
pub(crate) struct Unfinished {
    target: PathBuf,
    record: File,
}

/// Refuses a store that is missing because its conversion is unfinished, so that no empty store
/// takes its place.
pub(crate) fn refuse_unfinished(target: &Path) -> anyhow::Result<()> {
    let record = beside(target, RECORD);
    if exists(&record)? && !exists(target)? {
        bail!(
            "{} is the target of an unfinished conversion: run the same `downbeat convert` again, \
             or delete {} and {}",
            target.display(),
            record.display(),
            beside(target, UNFINISHED).display(),
        );
    }
    Ok(())
}

impl Target {
    /// Looks for a target, and refuses one that holds anything else than this conversion.
    pub(crate) fn look(target: &Path, job: &Job) -> anyhow::Result<Self> {
        let (name, path) = (target.display(), beside(target, RECORD));
        let unfinished = beside(target, UNFINISHED);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if exists(target)? {
                    bail!("{name} exists already: name a new store");
                }
                refuse_companions(target)?;
                if exists(&unfinished)? {
                    let unfinished = unfinished.display();
                    bail!("{unfinished} belongs to no known conversion: move it away");
                }
                return Ok(Self::Missing);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {}", path.display()));
            }
        };
        let mut record = lock(target, file)?;
        let (found, completed) = record.read()?;
        let start_again = || {
            let (path, unfinished) = (path.display(), unfinished.display());
            format!("to start again, delete {unfinished} first and then {path}")
        };
        match (found, exists(target)?, exists(&unfinished)?) {
            // Killed in step 1.
            (None, false, false) => record.describe(job).map(|()| Self::Unfinished(record)),
            (Some(found), _, _) if found != *job => bail!(
                "{name} is the target of another conversion, which is unfinished, {}; {}",
                found.describe(),
                start_again()
            ),
            (Some(_), true, false) | (Some(_), false, true) if completed.is_some() => {
                record.into_complete(completed)
            }
            (_, true, _) => bail!(
                "{name} was made while its conversion was unfinished: move it away, or {}",
                start_again()
            ),
            (None, ..) => bail!("{} is damaged: {}", path.display(), start_again()),
            (Some(_), false, false) if completed.is_some() => {
                bail!("{} is missing; {}", unfinished.display(), start_again())
            }
            (Some(_), false, _) => Ok(Self::Unfinished(record)),
        }
    }

    /// Step 1 of a conversion whose target is missing.
    pub(crate) fn create(target: &Path, job: &Job) -> anyhow::Result<Unfinished> {
        let path = beside(target, RECORD);
        if let Some(parent) = parent(target) {
            let cannot = || format!("cannot create {}", parent.display());
            fs::create_dir_all(parent).with_context(cannot)?;
        }
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        let mut record = lock(target, file)?;
        record.describe(job)?;
        Ok(record)
    }
}

impl Unfinished {
    /// The path of the store until it is complete.
    pub(crate) fn path(&self) -> PathBuf {
        beside(&self.target, UNFINISHED)
    }

    /// Step 3, once the store is closed.
    pub(crate) fn complete(&mut self, completed: Completed) -> anyhow::Result<()> {
        let path = self.path();
        for companion in COMPANIONS {
            // The store is closed and unused, so an empty one is of no use.
            let path = beside(&path, companion);
            let found = path.symlink_metadata();
            if companion != SHARED_MEMORY && found.is_ok_and(|found| found.len() > 0) {
                bail!("{} is not empty: is another process using it?", path.display());
            }
            remove(&path)?;
        }
        sync(&path)?;
        self.add(&completed)
    }

    /// Steps 4 and 5.
    pub(crate) fn publish(self) -> anyhow::Result<()> {
        let (path, target) = (self.path(), &self.target);
        if exists(&path)? {
            refuse_companions(target)?;
            if exists(target)? {
                bail!("{} was made during the conversion: move it away", target.display());
            }
            let cannot = || format!("cannot rename {} to {}", path.display(), target.display());
            fs::rename(&path, target).with_context(cannot)?;
        }
        self.sync_directory()?;
        remove(&beside(&path, RESERVE))?;
        remove(&beside(target, RECORD))?;
        self.sync_directory()
    }

    /// Writes the first line.
    fn describe(&mut self, job: &Job) -> anyhow::Result<()> {
        self.add(job)?;
        self.sync_directory()
    }

    fn into_complete(self, completed: Option<Completed>) -> anyhow::Result<Target> {
        let completed = completed.context("the conversion is not complete")?;
        Ok(Target::Complete(self, completed))
    }

    /// Reads the record. A line that was not written to its end does not count.
    fn read(&mut self) -> anyhow::Result<(Option<Job>, Option<Completed>)> {
        let mut text = String::new();
        let path = beside(&self.target, RECORD);
        let cannot = || format!("cannot read {}", path.display());
        self.record.read_to_string(&mut text).with_context(cannot)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            // Otherwise the next line would continue it.
            self.record.set_len(whole as u64).with_context(cannot)?;
        }
        let mut lines = text[..whole].lines();
        let job = lines.next().map(serde_json::from_str).transpose().with_context(cannot)?;
        let completed = lines.next().map(serde_json::from_str).transpose().with_context(cannot)?;
        Ok((job, completed))
    }

    /// Adds a line.
    fn add(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let written = self.record.write_all(text.as_bytes()).and_then(|()| self.record.sync_all());
        written.with_context(|| format!("cannot write {}", beside(&self.target, RECORD).display()))
    }

    fn sync_directory(&self) -> anyhow::Result<()> {
        parent(&self.target).map_or_else(|| sync(Path::new(".")), sync)
    }
}

impl Job {
    /// The command line, for people.
    fn describe(&self) -> String {
        let Self { from, to, storage_format, verify } = self;
        let mut text = format!("from {from} to {to}:");
        if let Some(format) = storage_format {
            text.push_str(" with --storage-format ");
            text.push_str(format);
        }
        if *verify {
            text.push_str(" with --verify");
        }
        text
    }
}

/// Locks a record, unless another process has it.
fn lock(target: &Path, record: File) -> anyhow::Result<Unfinished> {
    let path = beside(target, RECORD);
    let identity = FileIdentity::of(&path)?;
    match record.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("another process is converting to {}", target.display())
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    // The other process may just have finished.
    if identity.check().is_err() {
        bail!("another process has just ended a conversion to {}", target.display());
    }
    Ok(Unfinished { target: target.to_owned(), record })
}

fn refuse_companions(target: &Path) -> anyhow::Result<()> {
    for companion in COMPANIONS {
        let path = beside(target, companion);
        if exists(&path)? {
            let (path, target) = (path.display(), target.display());
            bail!("{path} is left of an older {target}: move it away, or name a new store");
        }
    }
    Ok(())
}

/// Whether there is anything at a path, also a link to nothing.
fn exists(path: &Path) -> anyhow::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look for {}", path.display())),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> anyhow::Result<()> {
    let synced: io::Result<()> = File::open(path).and_then(|file| file.sync_all());
    synced.with_context(|| format!("cannot sync {}", path.display()))
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

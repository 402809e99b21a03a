//! Opens stores for the tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sled::{SledOptions, SledStorage};
use downbeat_tools::Store;
use tokio::runtime::Handle;

use crate::conversion;
use crate::storage::{self, DurabilityChoice, OpenOptions, Place, StorageChoice, StorageFormat};

/// The cache of a sled store. sled takes a multiple of this, and an import opens two stores.
const SLED_CACHE_BYTES: u64 = 16 << 20;

/// Opens a store that exists, so that a mistyped name does not create an empty one.
pub(super) fn existing(choice: &StorageChoice, runtime: &Handle) -> anyhow::Result<Store> {
    let place = choice.place()?;
    require_existing(&place)?;
    with(&place, OpenOptions::default(), runtime)
}

/// Checks that a store exists, without opening it.
pub(super) fn require_existing(place: &Place) -> anyhow::Result<()> {
    match place {
        Place::Memory => {
            bail!("`memory` is always empty at the start: name a store on disk")
        }
        Place::Sled(dir) => require_sled(dir),
        Place::Sqlite(file) | Place::DataFile(file) => require_sqlite(file),
    }
}

/// Opens a store, or creates an empty one. A SQLite file must have the format, if there is one.
pub(super) fn or_create(
    choice: &StorageChoice,
    format: Option<StorageFormat>,
    runtime: &Handle,
) -> anyhow::Result<Store> {
    let options = OpenOptions { format, exclusive: true, ..OpenOptions::default() };
    with(&choice.place()?, options, runtime)
}

/// Refuses a target that is not on disk, or cannot have the format.
pub(super) fn check_target(place: &Place, format: Option<StorageFormat>) -> anyhow::Result<()> {
    if *place == Place::Memory {
        bail!("content in `memory` is lost when this command ends: name a store on disk");
    }
    if format.is_some() && matches!(place, Place::Sled(_)) {
        bail!("`--storage-format` is only for a SQLite file, `sqlite:FILE`, and not for {place}");
    }
    Ok(())
}

/// Opens a store like [`or_create`]. The size of the cache counts for a SQLite file only.
pub(super) fn with(place: &Place, options: OpenOptions, runtime: &Handle) -> anyhow::Result<Store> {
    check_target(place, options.format)?;
    let storage = if let Place::Sled(dir) = place {
        open_sled(dir, options.durability)
    } else {
        runtime.block_on(storage::open(place, options)).map(|opened| opened.storage)
    };
    let storage = storage.map_err(explain_lock).with_context(|| format!("cannot open {place}"))?;
    Ok(Store::new(storage, runtime.clone()))
}

/// Whether two paths name the same file or directory.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    resolved(a) == resolved(b)
}

/// Opens a sled store with a small cache: the tools read a store once, from end to end.
fn open_sled(dir: &Path, durability: DurabilityChoice) -> anyhow::Result<Arc<dyn Storage>> {
    conversion::refuse_unfinished(dir)?;
    let options = SledOptions::default().with_cache_bytes(SLED_CACHE_BYTES);
    let options = options.with_durability(durability.into());
    Ok(Arc::new(SledStorage::open_with(dir, options)?))
}

fn require_sled(dir: &Path) -> anyhow::Result<()> {
    /// The file that marks the directory of a sled store; see `docs/storage-format.md`.
    const FORMAT_FILE: &str = "format";

    require(dir)?;
    if !dir.is_dir() {
        bail!("{} is not a directory, so it holds no sled store", dir.display());
    }
    if !dir.join(FORMAT_FILE).exists() {
        bail!("{} holds no sled store", dir.display());
    }
    Ok(())
}

fn require_sqlite(file: &Path) -> anyhow::Result<()> {
    require(file)?;
    let found = file.metadata().with_context(|| format!("cannot read {}", file.display()))?;
    if !found.is_file() {
        bail!("{} is not a file, so it holds no SQLite store", file.display());
    }
    if found.len() == 0 {
        bail!("{} is empty, so it holds no SQLite store", file.display());
    }
    Ok(())
}

fn require(path: &Path) -> anyhow::Result<()> {
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        bail!("the store {} does not exist", path.display());
    }
    Ok(())
}

/// Adds advice to the error about a store that another process has open.
pub(super) fn explain_lock(error: anyhow::Error) -> anyhow::Error {
    if matches!(error.downcast_ref(), Some(StorageError::Locked { .. })) {
        error.context("a server or another tool has it open: stop that first")
    } else {
        error
    }
}

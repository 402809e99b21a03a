//! Names of stores on the command line, and how stores are opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use downbeat_storage::{Durability, MemoryStorage, Storage};
use downbeat_storage_sled::{SledOptions, SledStorage};
use downbeat_storage_sqlite::{SqliteOptions, SqliteSchema, SqliteStorage};

use crate::conversion;

/// The longest time that content is in memory only, with `--durability relaxed`. `--help` and the
/// README state it. A disk that needs tens of milliseconds for a flush stays mostly idle.
const RELAXED_FLUSH: Duration = Duration::from_millis(200);

/// The file of a data directory that has no sled store.
const DATA_FILE: &str = "downbeat.db";

/// The store of a server or tool, as it is written in settings and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorageChoice {
    /// Memory. Content is lost when the process ends.
    Memory,
    /// A data directory: a sled store if it holds one, as earlier versions made it, else the
    /// SQLite file [`DATA_FILE`] in Downbeat's own format.
    DataDir(PathBuf),
    /// A directory with a sled store.
    Sled(PathBuf),
    /// A SQLite file, in the format of the reference server or in Downbeat's own.
    Sqlite(PathBuf),
}

/// Where the store of a [`StorageChoice`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Memory.
    Memory,
    /// A directory with a sled store.
    Sled(PathBuf),
    /// A SQLite file.
    Sqlite(PathBuf),
    /// The SQLite file of a data directory.
    DataFile(PathBuf),
}

/// When content is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DurabilityChoice {
    /// Once it is on disk. A crash loses no acknowledged content.
    #[default]
    Safe,
    /// Once it is in memory. It is flushed to disk within 0.2 s, so a crash loses up to 0.2 s of
    /// acknowledged content. Faster on slow disks.
    Relaxed,
}

/// The format of a SQLite file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageFormat {
    /// The format of the reference server, which can use the file too.
    Reference,
    /// Downbeat's own format: faster, and with checksums. Only Downbeat can read it.
    Native,
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OpenOptions {
    pub durability: DurabilityChoice,
    /// The size of the store's cache, instead of the default size.
    pub cache_bytes: Option<u64>,
    /// The format that a SQLite file must have. New files get it. If it is absent, an existing file
    /// may have any format.
    pub format: Option<StorageFormat>,
    /// Whether a SQLite file that another process has open for itself is refused. A sled store has
    /// only one process in any case.
    pub exclusive: bool,
}

/// An open store.
pub(crate) struct Opened {
    pub storage: Arc<dyn Storage>,
    /// The format of its file. Only SQLite files have one.
    pub format: Option<StorageFormat>,
}

/// Opens a store. A missing or empty directory or file becomes a new store.
pub(crate) async fn open(place: &Place, options: OpenOptions) -> anyhow::Result<Opened> {
    let OpenOptions { durability, cache_bytes, mut format, exclusive } = options;
    if let Some(path) = place.path() {
        conversion::refuse_unfinished(path)?;
    }
    if let Place::DataFile(file) = place {
        format = format.or(format_of_file(file)?).or(Some(StorageFormat::Native));
    }
    Ok(match place {
        Place::Memory => Opened::without_format(MemoryStorage::new()),
        Place::Sled(dir) => {
            ensure!(
                format.is_none(),
                "{} holds a sled store, and `storage-format` is for SQLite files",
                dir.display()
            );
            let dir = dir.clone();
            let mut options = SledOptions::default()
                .with_durability(durability.into())
                .with_compact_garbage(true);
            options.cache_bytes = cache_bytes.unwrap_or(options.cache_bytes);
            let opening = tokio::task::spawn_blocking(move || SledStorage::open_with(dir, options));
            Opened::without_format(opening.await.context("opening the store panicked")??)
        }
        Place::Sqlite(file) | Place::DataFile(file) => {
            let path = file.clone();
            let mut options = SqliteOptions::default()
                .with_durability(durability.into())
                .with_exclusive(exclusive);
            options.cache_bytes = cache_bytes.unwrap_or(options.cache_bytes);
            let opening = tokio::task::spawn_blocking(move || open_sqlite(&path, options, format));
            let store = opening.await.context("opening the store panicked")??;
            let format = StorageFormat::of_schema(store.schema(), file)?;
            Opened { storage: Arc::new(store), format: Some(format) }
        }
    })
}

/// The format of a store that exists. Only SQLite files have one.
pub(crate) fn format_of(place: &Place) -> anyhow::Result<Option<StorageFormat>> {
    match place {
        Place::Memory | Place::Sled(_) => Ok(None),
        Place::Sqlite(file) | Place::DataFile(file) => format_of_file(file),
    }
}

fn open_sqlite(
    file: &Path,
    options: SqliteOptions,
    format: Option<StorageFormat>,
) -> anyhow::Result<SqliteStorage> {
    let Some(format) = format else { return Ok(SqliteStorage::open_with(file, options)?) };
    // Before the file is opened for writing, so that a refused file stays as it is.
    if let Some(found) = format_of_file(file)?
        && found != format
    {
        let (name, found, format) = (file.display(), found.name(), format.name());
        bail!(
            "{name} has the format `{found}`, but `storage-format` is `{format}`: an existing file \
             keeps its format. Leave `storage-format` out, or convert the file with `downbeat \
             convert --storage-format {format} sqlite:{name} sqlite:NEW-FILE`"
        );
    }
    Ok(SqliteStorage::open_with(file, options.with_schema(format.into()))?)
}

/// The format of a SQLite file; `None` if the file is missing or empty.
fn format_of_file(file: &Path) -> anyhow::Result<Option<StorageFormat>> {
    let schema = SqliteSchema::of_file(file)?;
    schema.map(|schema| StorageFormat::of_schema(schema, file)).transpose()
}

impl Opened {
    fn without_format(storage: impl Storage) -> Self {
        Self { storage: Arc::new(storage), format: None }
    }
}

impl StorageFormat {
    /// The name, as settings and flags have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Native => "native",
        }
    }

    /// The format with this schema, which `file` has.
    fn of_schema(schema: SqliteSchema, file: &Path) -> anyhow::Result<Self> {
        match schema {
            SqliteSchema::Reference => Ok(Self::Reference),
            SqliteSchema::Native => Ok(Self::Native),
            other => bail!("{} has the unknown format {other:?}", file.display()),
        }
    }
}

impl From<StorageFormat> for SqliteSchema {
    fn from(format: StorageFormat) -> Self {
        match format {
            StorageFormat::Reference => Self::Reference,
            StorageFormat::Native => Self::Native,
        }
    }
}

impl From<DurabilityChoice> for Durability {
    fn from(choice: DurabilityChoice) -> Self {
        match choice {
            DurabilityChoice::Safe => Self::Flushed,
            DurabilityChoice::Relaxed => Self::Relaxed { within: RELAXED_FLUSH },
        }
    }
}

impl FromStr for StorageChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some(("data", "")) => Err("`data:` needs a directory: data:DIR".to_owned()),
            Some(("data", dir)) => Ok(Self::DataDir(dir.into())),
            Some(("sled", "")) => Err("`sled:` needs a directory: sled:DIR".to_owned()),
            Some(("sled", dir)) => Ok(Self::Sled(dir.into())),
            Some(("sqlite", "")) => Err("`sqlite:` needs a file: sqlite:FILE".to_owned()),
            Some(("sqlite", file)) => Ok(Self::Sqlite(file.into())),
            _ => Err("expected `memory`, `data:DIR`, `sqlite:FILE` or `sled:DIR`".to_owned()),
        }
    }
}

impl fmt::Display for StorageChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::DataDir(dir) => write!(f, "data:{}", dir.display()),
            Self::Sled(dir) => write!(f, "sled:{}", dir.display()),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

impl StorageChoice {
    /// Where the store is. Looks into a data directory, and writes nothing.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        Ok(match self {
            Self::Memory => Place::Memory,
            Self::DataDir(dir) => {
                let file = dir.join(DATA_FILE);
                match (SledStorage::is_in(dir)?, file.try_exists()?) {
                    (true, false) => Place::Sled(dir.clone()),
                    (false, _) => Place::DataFile(file),
                    (true, true) => bail!(
                        "{dir} holds two stores: a sled store and the file {DATA_FILE}. Name one \
                         of them: `sled:{dir}` or `sqlite:{file}`",
                        dir = dir.display(),
                        file = file.display(),
                    ),
                }
            }
            Self::Sled(dir) => Place::Sled(dir.clone()),
            Self::Sqlite(file) => Place::Sqlite(file.clone()),
        })
    }
}

impl Place {
    /// The file or directory of a store on disk.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Sled(path) | Self::Sqlite(path) | Self::DataFile(path) => Some(path),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sled(dir) => write!(f, "sled:{}", dir.display()),
            Self::Sqlite(file) | Self::DataFile(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_storage_is_memory_or_a_directory_or_a_file() {
        assert_eq!("memory".parse(), Ok(StorageChoice::Memory));
        assert_eq!("data:a/b".parse(), Ok(StorageChoice::DataDir("a/b".into())));
        assert_eq!("sled:a/b".parse(), Ok(StorageChoice::Sled("a/b".into())));
        assert_eq!("sqlite:a.db".parse(), Ok(StorageChoice::Sqlite("a.db".into())));
        for bad in ["", "data", "sled", "sled:", "sqlite", "Memory", "rocks:dir"] {
            let error = bad.parse::<StorageChoice>().unwrap_err();
            assert!(error.contains("sled:DIR"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_storage_prints_as_it_is_written() {
        for text in ["memory", "data:a/b", "sled:a/b", "sqlite:a.db"] {
            assert_eq!(text.parse::<StorageChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_data_directory_keeps_the_sled_store_that_it_has() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let place = || StorageChoice::DataDir(dir.clone()).place();
        let (file, sled) = (Place::DataFile(dir.join(DATA_FILE)), Place::Sled(dir.clone()));
        assert_eq!(place().unwrap(), file, "missing");
        fs::create_dir(&dir).unwrap();
        assert_eq!(place().unwrap(), file, "empty");
        drop(SledStorage::open(&dir).unwrap());
        assert_eq!(place().unwrap(), sled);
        // Also one that is damaged: an empty store must not take its place.
        fs::remove_file(dir.join("format")).unwrap();
        assert_eq!(place().unwrap(), sled);
        fs::write(dir.join(DATA_FILE), "").unwrap();
        assert!(place().unwrap_err().to_string().contains("two stores"));
    }
}

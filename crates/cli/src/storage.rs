//! Names of stores on the command line, and how stores are opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use downbeat_storage::{Durability, MemoryStorage, Storage};
use downbeat_storage_sled::{SledOptions, SledStorage};
use downbeat_storage_sqlite::{SqliteOptions, SqliteStorage};

/// The longest time that content is in memory only, with `--durability relaxed`. `--help` and the
/// README state it. A disk that needs tens of milliseconds for a flush stays mostly idle.
const RELAXED_FLUSH: Duration = Duration::from_millis(200);

/// The store of a server or tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorageChoice {
    /// Memory. Content is lost when the process ends.
    Memory,
    /// A directory with a sled store.
    Sled(PathBuf),
    /// A SQLite file in the format of the reference server.
    Sqlite(PathBuf),
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

/// Opens a store. A missing or empty directory or file becomes a new store.
pub(crate) async fn open(
    choice: &StorageChoice,
    durability: DurabilityChoice,
) -> anyhow::Result<Arc<dyn Storage>> {
    open_with_cache(choice, durability, None).await
}

/// Opens a store with this size of its cache, instead of the default size.
pub(crate) async fn open_with_cache(
    choice: &StorageChoice,
    durability: DurabilityChoice,
    cache_bytes: Option<u64>,
) -> anyhow::Result<Arc<dyn Storage>> {
    Ok(match choice {
        StorageChoice::Memory => Arc::new(MemoryStorage::new()),
        StorageChoice::Sled(dir) => {
            let dir = dir.clone();
            let mut options = SledOptions::default().with_durability(durability.into());
            options.cache_bytes = cache_bytes.unwrap_or(options.cache_bytes);
            let opening = tokio::task::spawn_blocking(move || SledStorage::open_with(dir, options));
            Arc::new(opening.await.context("opening the store panicked")??)
        }
        StorageChoice::Sqlite(file) => {
            let file = file.clone();
            let mut options = SqliteOptions::default().with_durability(durability.into());
            options.cache_bytes = cache_bytes.unwrap_or(options.cache_bytes);
            let opening =
                tokio::task::spawn_blocking(move || SqliteStorage::open_with(file, options));
            Arc::new(opening.await.context("opening the store panicked")??)
        }
    })
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
            Some(("sled", "")) => Err("`sled:` needs a directory: sled:DIR".to_owned()),
            Some(("sled", dir)) => Ok(Self::Sled(dir.into())),
            Some(("sqlite", "")) => Err("`sqlite:` needs a file: sqlite:FILE".to_owned()),
            Some(("sqlite", file)) => Ok(Self::Sqlite(file.into())),
            _ => Err("expected `memory`, `sled:DIR` or `sqlite:FILE`".to_owned()),
        }
    }
}

impl fmt::Display for StorageChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sled(dir) => write!(f, "sled:{}", dir.display()),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_is_memory_or_a_directory_or_a_file() {
        assert_eq!("memory".parse(), Ok(StorageChoice::Memory));
        assert_eq!("sled:a/b".parse(), Ok(StorageChoice::Sled("a/b".into())));
        assert_eq!("sqlite:a.db".parse(), Ok(StorageChoice::Sqlite("a.db".into())));
        for bad in ["", "sled", "sled:", "sqlite", "Memory", "rocks:dir"] {
            let error = bad.parse::<StorageChoice>().unwrap_err();
            assert!(error.contains("sled:DIR"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_storage_prints_as_it_is_written() {
        for text in ["memory", "sled:a/b", "sqlite:a.db"] {
            assert_eq!(text.parse::<StorageChoice>().unwrap().to_string(), text);
        }
    }
}

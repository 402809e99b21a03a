//! The compared backends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use anyhow::Result;
use clap::ValueEnum;
use downbeat_storage::{Storage, StorageError};
use downbeat_storage_sled::SledStorage;
use downbeat_storage_sqlite::{SqliteOptions, SqliteSchema, SqliteStorage};

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// sled.
    Sled,
    /// SQLite with the schema of the reference server.
    Reference,
    /// SQLite with the native schema.
    Native,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Sled, Self::Reference, Self::Native];

    /// Opens the store in a directory, or creates it.
    pub(crate) fn open(self, dir: &Path) -> Result<Arc<dyn Storage>, StorageError> {
        Ok(match self.schema() {
            None => Arc::new(SledStorage::open(dir)?),
            Some(schema) => Arc::new(open_sqlite(dir, schema)?),
        })
    }

    /// Opens the store like [`Self::open`], and waits for its own check, which a server runs in the
    /// background.
    pub(crate) async fn open_checked(self, dir: &Path) -> Result<Arc<dyn Storage>, StorageError> {
        let Some(schema) = self.schema() else { return self.open(dir) };
        let store = open_sqlite(dir, schema)?;
        store.check_sessions().await;
        Ok(Arc::new(store))
    }

    fn schema(self) -> Option<SqliteSchema> {
        match self {
            Self::Sled => None,
            Self::Reference => Some(SqliteSchema::Reference),
            Self::Native => Some(SqliteSchema::Native),
        }
    }
}

fn open_sqlite(dir: &Path, schema: SqliteSchema) -> Result<SqliteStorage, StorageError> {
    let options = SqliteOptions::default().with_schema(schema);
    SqliteStorage::open_with(dir.join("storage.db"), options)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sled => "sled",
            Self::Reference => "reference",
            Self::Native => "native",
        })
    }
}

/// The files of a store that have content, with their lengths. The space that a backend reserves
/// for a full disk has none.
pub(crate) fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            files.extend(self::files(&path)?);
        } else if !path.to_string_lossy().ends_with("reserve") {
            files.push((path, entry.metadata()?.len()));
        }
    }
    files.sort();
    Ok(files)
}

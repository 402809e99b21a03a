//! The directory in which a server keeps its data.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use downbeat_storage::Storage;
use downbeat_storage_sled::SledStorage;
use downbeat_storage_sqlite::{SqliteOptions, SqliteSchema, SqliteStorage};
use tempfile::TempDir;

use crate::server::Program;

/// The kinds of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The sled store, a directory.
    Sled,
    /// The SQLite file of the reference.
    Sqlite,
    /// A SQLite file with Downbeat's own tables.
    Native,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Sled, Self::Sqlite, Self::Native];

    /// The command that starts a server with its store in this directory.
    pub(crate) fn program(self, binary: &Path, data: &Path) -> Program {
        let file = data.join(SQLITE_FILE);
        let (storage, format) = match self {
            Self::Sled => (format!("sled:{}", data.display()), None),
            Self::Sqlite => (format!("sqlite:{}", file.display()), Some("reference")),
            Self::Native => (format!("sqlite:{}", file.display()), Some("native")),
        };
        let mut storage = vec!["--storage".to_owned(), storage];
        storage.extend(format.map(|format| format!("--storage-format={format}")));
        Program {
            binary: binary.to_owned(),
            options: Vec::new(),
            storage,
            wrapper: Vec::new(),
            user: None,
        }
    }

    /// Opens the store in this directory, while no server has it open.
    pub(crate) fn open(self, data: &Path) -> Result<Box<dyn Storage>> {
        let schema = match self {
            Self::Sled => return Ok(Box::new(SledStorage::open(data)?)),
            Self::Sqlite => SqliteSchema::Reference,
            Self::Native => SqliteSchema::Native,
        };
        let options = SqliteOptions::default().with_schema(schema);
        let store = SqliteStorage::open_with(data.join(SQLITE_FILE), options)?;
        ensure!(store.schema() == schema, "the file has the schema {:?}", store.schema());
        Ok(Box::new(store))
    }
}

/// The name of the SQLite file. Its directory holds nothing else.
pub(crate) const SQLITE_FILE: &str = "storage.db";

/// A temporary directory for one test, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    kind: Kind,
    dir: TempDir,
}

impl DataDir {
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        Ok(Self { kind, dir })
    }

    /// The command that starts a server on this directory.
    pub(crate) fn program(&self, binary: &Path) -> Program {
        self.program_in(binary, &self.dir.path().join("data"))
    }

    /// The command that starts a server on another directory.
    pub(crate) fn program_in(&self, binary: &Path, data: &Path) -> Program {
        self.kind.program(binary, data)
    }

    /// Opens the store, while no server has it open.
    pub(crate) fn open(&self) -> Result<Box<dyn Storage>> {
        self.kind.open(&self.data())
    }

    /// A copy of a program that all users can execute.
    pub(crate) fn public_copy(&self, program: &Path) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755))?;
        let copy = self.dir.path().join("program");
        fs::copy(program, &copy).context("cannot copy the server")?;
        Ok(copy)
    }

    /// The directory that holds the data and nothing else.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sled => f.write_str("sled"),
            Self::Sqlite => f.write_str("sqlite"),
            Self::Native => f.write_str("native"),
        }
    }
}

//! The schema of a file: the tables that hold its content.

use std::path::Path;

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use downbeat_storage::{Runs, StorageError, StoredCoValue};
use rusqlite::{Connection, OpenFlags};

use crate::check::Part;
use crate::connection;
use crate::error::FileError;
use crate::totals::Totals;
use crate::{native, reference};

/// The tables in which a file holds its content.
///
/// A file keeps the schema with which it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SqliteSchema {
    /// The tables of the reference server. Both servers can use the file in turn.
    #[default]
    Reference,
    /// Downbeat's own tables, for Downbeat alone: faster, smaller, and all content has checksums.
    Native,
}

impl SqliteSchema {
    /// The schema of a file; `None` if it is missing or empty. Writes nothing to it, and migrates
    /// nothing.
    ///
    /// # Errors
    ///
    /// Those of [`SqliteStorage::open`](crate::SqliteStorage::open).
    pub fn of_file(file: impl AsRef<Path>) -> Result<Option<Self>, StorageError> {
        let io_error =
            |error| StorageError::io(format!("cannot open {}", file.as_ref().display()), error);
        // SQLite gives some relative names a special meaning.
        let path = std::path::absolute(file.as_ref()).map_err(io_error)?;
        if !path.try_exists().map_err(io_error)? {
            return Ok(None);
        }
        Self::of(&connection::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?, &path)
    }

    /// The schema of a file; `None` if it is empty. Refuses a file that is no store, without
    /// changing it.
    pub(crate) fn of(connection: &Connection, file: &Path) -> Result<Option<Self>, StorageError> {
        let storage_error =
            |error: rusqlite::Error| FileError::from(error).into_storage_error("open", file);
        let application: i32 = connection
            .pragma_query_value(None, "application_id", |row| row.get(0))
            .map_err(storage_error)?;
        if application == native::APPLICATION_ID {
            native::check(connection, file)?;
            return Ok(Some(Self::Native));
        }
        Ok(reference::check(connection, file)?.then_some(Self::Reference))
    }

    /// Sets what cannot be changed once the file has content.
    pub(crate) fn set_up_new_file(self, connection: &Connection) -> Result<(), rusqlite::Error> {
        match self {
            Self::Reference => Ok(()),
            Self::Native => native::set_up_new_file(connection),
        }
    }

    /// Creates the tables, or migrates them to the newest version.
    pub(crate) fn migrate(
        self,
        connection: &mut Connection,
        file: &Path,
    ) -> Result<(), StorageError> {
        match self {
            Self::Reference => reference::migrate(connection, file),
            Self::Native => native::migrate(connection, file),
        }
    }

    /// See [`Storage::load`](downbeat_storage::Storage::load).
    pub(crate) fn load(
        self,
        connection: &Connection,
        id: CoValueId,
    ) -> Result<Option<StoredCoValue>, FileError> {
        match self {
            Self::Reference => reference::load(connection, id),
            Self::Native => native::load(connection, id),
        }
    }

    /// See [`Storage::read`](downbeat_storage::Storage::read). `runs` takes the answer.
    pub(crate) fn read(
        self,
        connection: &Connection,
        id: CoValueId,
        have: &SessionCounts,
        runs: Runs,
    ) -> Result<Vec<SessionContent>, FileError> {
        match self {
            Self::Reference => reference::read(connection, id, have, runs),
            Self::Native => native::read(connection, id, have, runs),
        }
    }

    /// The difference between the real totals and their row.
    pub(crate) fn audit(self, connection: &Connection) -> Result<Totals, FileError> {
        let row = Totals::read(connection)?;
        let counted = match self {
            Self::Reference => reference::count(connection, row)?,
            Self::Native => native::count(connection, row)?,
        };
        Ok(counted - row)
    }

    /// The parts of the check that starts when a file is opened.
    pub(crate) fn passes(self) -> &'static [Part] {
        match self {
            Self::Reference => &reference::PASSES,
            Self::Native => &native::PASSES,
        }
    }
}

//! Errors of SQLite, and their conversion into errors of the store.

use std::fmt;
use std::io;
use std::path::Path;

use downbeat_protocol::{CoValueId, SessionId};
use downbeat_storage::{Damage, StorageError};
use rusqlite::ErrorCode;

/// An error while the file is used, without the name of the file and the action.
#[derive(Debug)]
pub(crate) enum FileError {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// Stored data is damaged.
    Damage(Damage),
}

impl FileError {
    /// The error of the store, for an attempt to `verb` the file ("read", "write to").
    pub(crate) fn into_storage_error(self, verb: &str, file: &Path) -> StorageError {
        let error = match self {
            Self::Damage(damage) => return damage.into(),
            Self::Sqlite(error) => error,
        };
        let action = format!("cannot {verb} {}", file.display());
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StorageError::NotAStore {
                path: file.to_owned(),
                reason: "it is no SQLite database, or its first page is damaged".to_owned(),
            },
            Some(ErrorCode::DiskFull) => {
                StorageError::io(action, io::Error::new(io::ErrorKind::StorageFull, error))
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                StorageError::io(action, io::Error::other(error))
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StorageError::io(action, io::Error::new(io::ErrorKind::PermissionDenied, error))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StorageError::Locked { path: file.to_owned() }
            }
            _ if is_damage(&error) => {
                Damage::in_record(file.display().to_string(), error.to_string()).into()
            }
            _ => StorageError::backend(action, error),
        }
    }

    /// Adds the CoValue that was being read, if this is damage. SQLite does not know it.
    pub(crate) fn while_reading(self, id: CoValueId) -> Self {
        match self {
            Self::Damage(damage) => Self::Damage(damage.while_reading(id)),
            Self::Sqlite(error) if is_damage(&error) => {
                Self::Damage(Damage::in_co_value(id, error.to_string()))
            }
            other @ Self::Sqlite(_) => other,
        }
    }

    /// The damage, if this is damage.
    pub(crate) fn as_damage(&self, id: CoValueId) -> Option<Damage> {
        match self {
            Self::Damage(damage) => Some(damage.clone().while_reading(id)),
            Self::Sqlite(error) => {
                is_damage(error).then(|| Damage::in_co_value(id, error.to_string()))
            }
        }
    }
}

impl From<rusqlite::Error> for FileError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Damage> for FileError {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Damage in a CoValue as a whole.
pub(crate) fn in_co_value(id: CoValueId, reason: &dyn fmt::Display) -> FileError {
    Damage::in_co_value(id, reason.to_string()).into()
}

/// Damage in a session.
pub(crate) fn in_session(
    id: CoValueId,
    session: &SessionId,
    reason: &dyn fmt::Display,
) -> FileError {
    Damage::in_session(id, session, reason.to_string()).into()
}

/// Whether SQLite found a malformed page, or a value of a wrong type.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn error(code: i32) -> StorageError {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        FileError::from(error).into_storage_error("write to", Path::new("a.db"))
    }

    #[test]
    fn errors_of_sqlite_are_told_apart() {
        assert!(matches!(error(ffi::SQLITE_FULL), StorageError::Full { .. }));
        assert!(matches!(error(ffi::SQLITE_IOERR_FSYNC), StorageError::Io { .. }));
        assert!(matches!(error(ffi::SQLITE_READONLY), StorageError::Io { .. }));
        assert!(matches!(error(ffi::SQLITE_CORRUPT), StorageError::Corrupt(_)));
        assert!(matches!(error(ffi::SQLITE_NOTADB), StorageError::NotAStore { .. }));
        assert!(matches!(error(ffi::SQLITE_BUSY), StorageError::Locked { .. }));
        assert!(matches!(error(ffi::SQLITE_NOMEM), StorageError::Backend { .. }));
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_NOMEM] {
            assert!(error(code).to_string().contains("a.db"), "{}", error(code));
        }
    }

    #[test]
    fn damaged_pages_name_the_covalue_that_was_read() {
        let id = CoValueId::parse("co_z1").unwrap();
        let corrupt = || rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None);
        let error = FileError::from(corrupt())
            .while_reading(id)
            .into_storage_error("read", Path::new("a.db"));
        let StorageError::Corrupt(damage) = error else { panic!("{error}") };
        assert_eq!(damage.id(), Some(id));
    }
}

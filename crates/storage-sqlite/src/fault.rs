//! What goes wrong with the file, as the store's errors.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use downbeat_protocol::{CoValueId, SessionId};
use downbeat_storage::{Damage, StorageError};
use rusqlite::ErrorCode;

/// What went wrong, before it is told in which file and at what.
#[derive(Debug)]
pub(crate) enum Fault {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// Something stored is not what was written.
    Damage(Damage),
}

impl Fault {
    /// The error to report, for an attempt to `verb` the file ("read", "write to").
    pub(crate) fn into_error(self, verb: &str, file: &Path) -> StorageError {
        let error = match self {
            Self::Damage(damage) => return damage.into(),
            Self::Sqlite(error) => error,
        };
        let action = format!("cannot {verb} {}", file.display());
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StorageError::NotAStore {
                path: file.to_owned(),
                reason: "it is no SQLite database, or its beginning is damaged".to_owned(),
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
            _ => {
                let source: Arc<dyn Error + Send + Sync> = Arc::new(error);
                StorageError::Backend { action, source }
            }
        }
    }

    /// The same, as damage of a CoValue where it is damage: SQLite does not know what it lies in.
    pub(crate) fn on_the_way_to(self, id: CoValueId) -> Self {
        match self {
            Self::Damage(damage) => Self::Damage(damage.on_the_way_to(id)),
            Self::Sqlite(error) if is_damage(&error) => {
                Self::Damage(Damage::in_co_value(id, error.to_string()))
            }
            other @ Self::Sqlite(_) => other,
        }
    }

    /// The damage, if that is what it is.
    pub(crate) fn as_damage(&self, id: CoValueId) -> Option<Damage> {
        match self {
            Self::Damage(damage) => Some(damage.clone().on_the_way_to(id)),
            Self::Sqlite(error) => {
                is_damage(error).then(|| Damage::in_co_value(id, error.to_string()))
            }
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Damage in a CoValue as a whole.
pub(crate) fn in_co_value(id: CoValueId, reason: &dyn fmt::Display) -> Fault {
    Damage::in_co_value(id, reason.to_string()).into()
}

/// Damage in a session.
pub(crate) fn in_session(id: CoValueId, session: &SessionId, reason: &dyn fmt::Display) -> Fault {
    Damage::in_session(id, session, reason.to_string()).into()
}

/// Whether SQLite found a page that cannot be right, or a value of a type that nobody writes.
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
        Fault::from(error).into_error("write to", Path::new("a.db"))
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
    fn damaged_pages_are_told_of_the_covalue_that_was_read() {
        let id = CoValueId::parse("co_z1").unwrap();
        let corrupt = || rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None);
        let error = Fault::from(corrupt()).on_the_way_to(id).into_error("read", Path::new("a.db"));
        let StorageError::Corrupt(damage) = error else { panic!("{error}") };
        assert_eq!(damage.id(), Some(id));
    }
}

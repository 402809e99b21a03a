//! The changes of one transaction.

use downbeat_protocol::CoValueId;
use downbeat_storage::{Damage, Erased, Outcome, Unsynced, UnsyncedUpdate, Write};
use rusqlite::Connection;

use crate::check::Damaged;
use crate::error::FileError;
use crate::schema::SqliteSchema;
use crate::totals::Totals;
use crate::{native, reference};

/// The writer's cache of the file.
#[derive(Debug)]
pub(crate) enum Remembered {
    Reference(reference::Remembered),
    Native(native::Remembered),
}

/// The changes that fail when one of them meets damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DamageScope {
    /// The whole batch.
    Batch,
    /// Only the write that meets it. Takes longer.
    Write,
}

/// A transaction that is being made.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) remembered: &'a mut Remembered,
    pub(crate) damaged: &'a Damaged,
    pub(crate) totals: Totals,
}

impl Draft<'_> {
    /// Carries out a write, on top of those before it.
    pub(crate) fn write(
        &mut self,
        write: &Write,
        scope: DamageScope,
    ) -> Result<Outcome, FileError> {
        let outcome = self.within(scope, write.id(), |draft| match draft.remembered {
            Remembered::Reference(remembered) => {
                let (connection, totals) = (draft.connection, &mut draft.totals);
                reference::Changes { connection, remembered, totals }.write(write)
            }
            Remembered::Native(remembered) => {
                let (connection, totals) = (draft.connection, &mut draft.totals);
                native::Changes { connection, remembered, totals }.write(write)
            }
        })?;
        Ok(outcome.unwrap_or_else(Outcome::Damaged))
    }

    /// See [`Storage::erase`](downbeat_storage::Storage::erase). The inner error is damage that
    /// prevents erasing.
    pub(crate) fn erase(
        &mut self,
        id: CoValueId,
        scope: DamageScope,
    ) -> Result<Result<Erased, Damage>, FileError> {
        self.within(scope, id, |draft| match draft.remembered {
            Remembered::Reference(remembered) => {
                let (connection, totals) = (draft.connection, &mut draft.totals);
                reference::Changes { connection, remembered, totals }.erase(id)
            }
            Remembered::Native(remembered) => {
                let (connection, totals) = (draft.connection, &mut draft.totals);
                native::Changes { connection, remembered, totals }.erase(id)
            }
        })
    }

    /// See [`Storage::track_unsynced`](downbeat_storage::Storage::track_unsynced).
    pub(crate) fn track(&self, update: &UnsyncedUpdate) -> Result<(), FileError> {
        let UnsyncedUpdate { entry: Unsynced { id, upstream }, synced } = update;
        let note = (id.as_str(), upstream.as_str());
        if *synced {
            let delete = "DELETE FROM unsynced_covalues WHERE co_value_id = ?1 AND peer_id = ?2";
            self.connection.prepare_cached(delete)?.execute(note)?;
        } else if matches!(self.remembered, Remembered::Native(_)) {
            let insert = "INSERT INTO unsynced_covalues (co_value_id, peer_id, checksum)
                VALUES (?1, ?2, ?3)
                ON CONFLICT (co_value_id, peer_id) DO UPDATE SET checksum = excluded.checksum";
            let checksum = native::note_checksum(*id, upstream);
            self.connection.prepare_cached(insert)?.execute((note.0, note.1, checksum))?;
        } else {
            let insert =
                "INSERT OR IGNORE INTO unsynced_covalues (co_value_id, peer_id) VALUES (?1, ?2)";
            self.connection.prepare_cached(insert)?.execute(note)?;
        }
        Ok(())
    }

    /// Changes a CoValue, unless the check has found it damaged.
    fn within<T>(
        &mut self,
        scope: DamageScope,
        id: CoValueId,
        change: impl FnOnce(&mut Self) -> Result<T, FileError>,
    ) -> Result<Result<T, Damage>, FileError> {
        let change = |draft: &mut Self| {
            draft.damaged.refuse(id)?;
            change(draft)
        };
        match scope {
            DamageScope::Batch => change(self).map(Ok).map_err(|error| error.while_reading(id)),
            DamageScope::Write => self.in_savepoint(id, change),
        }
    }

    /// Does work that may meet damage. Damage rolls back the changes of this work.
    fn in_savepoint<T>(
        &mut self,
        id: CoValueId,
        work: impl FnOnce(&mut Self) -> Result<T, FileError>,
    ) -> Result<Result<T, Damage>, FileError> {
        self.connection.execute_batch("SAVEPOINT downbeat_work")?;
        let before = self.totals;
        let result = match work(self) {
            Ok(done) => Ok(done),
            Err(error) => {
                let Some(damage) = error.as_damage(id) else { return Err(error) };
                self.connection.execute_batch("ROLLBACK TO downbeat_work")?;
                self.totals = before;
                self.remembered.forget();
                Err(damage)
            }
        };
        self.connection.execute_batch("RELEASE downbeat_work")?;
        Ok(result)
    }
}

impl Remembered {
    /// An empty cache.
    pub(crate) fn new(schema: SqliteSchema) -> Self {
        match schema {
            SqliteSchema::Reference => Self::Reference(reference::Remembered::default()),
            SqliteSchema::Native => Self::Native(native::Remembered::default()),
        }
    }

    /// Empties the cache: the file may have changed.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::Reference(remembered) => remembered.forget(),
            Self::Native(remembered) => *remembered = native::Remembered::default(),
        }
    }
}

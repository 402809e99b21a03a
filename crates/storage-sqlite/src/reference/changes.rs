//! The changes of one transaction to the tables.

use std::collections::HashMap;

use downbeat_protocol::{CoValueId, Header, SessionContent, SessionId};
use downbeat_storage::{Damage, Outcome, SessionOutcome, SinceCheckpoint, Write};
use rusqlite::{Connection, ErrorCode};

use super::extension::{checksum, owner};
use super::{header, index};
use crate::error::{FileError, in_session};
use crate::totals::Totals;

/// CoValues and sessions in the cache at most, a few megabytes. When it is full, it is emptied.
const MAX_REMEMBERED: usize = 20_000;

/// The writer's cache of the file.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    co_values: HashMap<CoValueId, index::CoValueRow>,
    /// By the row of the CoValue and the session.
    sessions: HashMap<(i64, SessionId), Head>,
}

/// The end of a session's log.
#[derive(Debug, Clone, Copy)]
struct Head {
    row: i64,
    count: u64,
    since: SinceCheckpoint,
}

/// The changes of one transaction to the tables.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) remembered: &'a mut Remembered,
    pub(crate) totals: &'a mut Totals,
}

impl Changes<'_> {
    /// Carries out a write, on top of those before it.
    pub(crate) fn write(&mut self, write: &Write) -> Result<Outcome, FileError> {
        let id = write.id();
        let found = match (self.co_value(id)?, write) {
            (None, Write::Append { header: Some(header), .. }) => self.create(id, header)?,
            (found, _) => found,
        };
        let Some(co_value) = found else { return Ok(Outcome::NoHeader) };
        let outcomes = match write {
            Write::Append { sessions, .. } => {
                let extend = |content| self.extend(id, co_value, content);
                sessions.iter().map(extend).collect::<Result<_, _>>()?
            }
            Write::Tombstone { session, .. } => vec![self.write_tombstone(id, co_value, session)?],
        };
        Ok(Outcome::Applied(outcomes))
    }

    fn create(
        &mut self,
        id: CoValueId,
        header: &Header,
    ) -> Result<Option<index::CoValueRow>, FileError> {
        let mut insert =
            self.connection.prepare_cached("INSERT INTO coValues (id, header) VALUES (?1, ?2)")?;
        match insert.insert((id.as_str(), header::encode(id, header)?)) {
            Ok(row) => {
                let co_value = index::CoValueRow { row, deleted: self.has_mark(id)? };
                self.totals.co_values += 1;
                self.totals.deleted += i64::from(co_value.deleted);
                self.remembered.keep(id, co_value);
                Ok(Some(co_value))
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let reason = "its header is stored under another id";
                Err(Damage::in_co_value(id, reason).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the CoValue is marked as deleted. The mark may be older than the CoValue.
    fn has_mark(&self, id: CoValueId) -> Result<bool, FileError> {
        let query = "SELECT 1 FROM deletedCoValues WHERE coValueID = ?1";
        Ok(self.connection.prepare_cached(query)?.exists([id.as_str()])?)
    }

    fn extend(
        &mut self,
        id: CoValueId,
        co_value: index::CoValueRow,
        content: &SessionContent,
    ) -> Result<SessionOutcome, FileError> {
        if co_value.deleted && !content.session.is_delete() {
            return Ok(SessionOutcome::Deleted);
        }
        let head = self.head(id, co_value.row, &content.session)?;
        let stored = head.map_or(0, |head| head.count);
        if stored != content.after {
            return Ok(SessionOutcome::Conflict { stored });
        }
        if !content.transactions.is_empty() {
            let head = self.append(id, co_value.row, head, content)?;
            self.remembered.sessions.insert((co_value.row, content.session.clone()), head);
        }
        Ok(SessionOutcome::Applied)
    }

    fn write_tombstone(
        &mut self,
        id: CoValueId,
        co_value: index::CoValueRow,
        content: &SessionContent,
    ) -> Result<SessionOutcome, FileError> {
        if !content.session.is_delete() {
            return Ok(SessionOutcome::Deleted);
        }
        let stored = self.head(id, co_value.row, &content.session)?.map_or(0, |head| head.count);
        let outcome = if content.transactions.is_empty() {
            SessionOutcome::Conflict { stored }
        } else if stored >= content.end() {
            SessionOutcome::Applied
        } else {
            self.extend(id, co_value, content)?
        };
        if outcome == SessionOutcome::Applied && !co_value.deleted {
            // The status 0 means "pending", also to the reference: there is content to erase.
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO deletedCoValues (coValueID, status) VALUES (?1, 0)
                ON CONFLICT (coValueID) DO NOTHING",
            )?;
            insert.execute([id.as_str()])?;
            self.totals.deleted += 1;
            self.remembered.keep(id, index::CoValueRow { deleted: true, ..co_value });
        }
        Ok(outcome)
    }

    /// Writes an extension that fits, with at least one transaction. Returns the new head.
    fn append(
        &mut self,
        id: CoValueId,
        co_value: i64,
        head: Option<Head>,
        content: &SessionContent,
    ) -> Result<Head, FileError> {
        let SessionContent { session, after, transactions, last_signature } = content;
        let mut since = head.map_or(SinceCheckpoint(0), |head| head.since);
        let checkpoint = since.extend(transactions);
        let (count, signature) = (content.end(), last_signature.as_str());
        let row = if let Some(Head { row, .. }) = head {
            let mut update = self.connection.prepare_cached(
                "UPDATE sessions SET lastIdx = ?2, lastSignature = ?3,
                    bytesSinceLastSignature = ?4 WHERE rowID = ?1",
            )?;
            if update.execute((row, count, signature, since.0))? == 0 {
                return Err(in_session(id, session, &"its row cannot be found again"));
            }
            row
        } else {
            self.totals.sessions += 1;
            self.insert_session(co_value, session, count, signature, since)?
        };
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO transactions (ses, idx, tx) VALUES (?1, ?2, ?3)
            ON CONFLICT (ses, idx) DO UPDATE SET tx = excluded.tx",
        )?;
        for (idx, transaction) in (*after..).zip(transactions) {
            let json = str::from_utf8(transaction.json())
                .map_err(|error| in_session(id, session, &error))?;
            insert.execute((row, idx, json))?;
            self.totals.bytes += i64::try_from(json.len()).unwrap_or(i64::MAX);
        }
        self.totals.transactions += i64::try_from(transactions.len()).unwrap_or(i64::MAX);
        if checkpoint {
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO signatureAfter (ses, idx, signature) VALUES (?1, ?2, ?3)",
            )?;
            insert.execute((row, count - 1, signature))?;
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO downbeat_extensions
                (ses, idx, owner, after, signature, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let checksum = checksum(*after, last_signature, transactions);
        insert.execute((row, count - 1, owner(id, session), after, signature, checksum))?;
        Ok(Head { row, count, since })
    }

    fn insert_session(
        &self,
        co_value: i64,
        session: &SessionId,
        count: u64,
        signature: &str,
        since: SinceCheckpoint,
    ) -> Result<i64, FileError> {
        // There may be a row without transactions.
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO sessions
                (coValue, sessionID, lastIdx, lastSignature, bytesSinceLastSignature)
            VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (sessionID, coValue) DO UPDATE SET lastIdx = excluded.lastIdx,
                lastSignature = excluded.lastSignature,
                bytesSinceLastSignature = excluded.bytesSinceLastSignature
            RETURNING rowID",
        )?;
        let row = insert
            .query_row((co_value, session.as_str(), count, signature, since.0), |row| row.get(0))?;
        self.clear_beyond(row, 0)?;
        Ok(row)
    }

    /// Removes signatures beyond the end of a log, so that they do not end up within it when it
    /// grows. The reference leaves some when it is interrupted, and when it erases a session whose
    /// row is used again.
    fn clear_beyond(&self, session: i64, count: u64) -> Result<(), FileError> {
        for delete in [
            "DELETE FROM signatureAfter WHERE ses = ?1 AND idx >= ?2",
            "DELETE FROM downbeat_extensions WHERE ses = ?1 AND idx >= ?2",
        ] {
            self.connection.prepare_cached(delete)?.execute((session, count))?;
        }
        Ok(())
    }

    fn co_value(&mut self, id: CoValueId) -> Result<Option<index::CoValueRow>, FileError> {
        if let Some(known) = self.remembered.co_values.get(&id) {
            return Ok(Some(*known));
        }
        let found = index::co_value(self.connection, id)?;
        if let Some(co_value) = found {
            self.remembered.keep(id, co_value);
        }
        Ok(found)
    }

    fn head(
        &mut self,
        id: CoValueId,
        co_value: i64,
        session: &SessionId,
    ) -> Result<Option<Head>, FileError> {
        let key = (co_value, session.clone());
        if let Some(known) = self.remembered.sessions.get(&key) {
            return Ok(Some(*known));
        }
        let Some(found) = index::session(self.connection, id, co_value, session)? else {
            return Ok(None);
        };
        let index::SessionRow { row, stored, .. } = found;
        self.clear_beyond(row, stored.count)?;
        let since = SinceCheckpoint(stored.since_checkpoint);
        let head = Head { row, count: stored.count, since };
        self.remembered.make_room();
        self.remembered.sessions.insert(key, head);
        Ok(Some(head))
    }
}

impl Remembered {
    /// Empties the cache: the file may have changed.
    pub(crate) fn forget(&mut self) {
        self.co_values.clear();
        self.sessions.clear();
    }

    fn keep(&mut self, id: CoValueId, co_value: index::CoValueRow) {
        self.make_room();
        self.co_values.insert(id, co_value);
    }

    fn make_room(&mut self) {
        if self.co_values.len() + self.sessions.len() >= MAX_REMEMBERED {
            self.forget();
        }
    }
}

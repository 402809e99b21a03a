//! The changes of one transaction to the tables.

use downbeat_protocol::{CoValueId, Header, SessionContent, SessionId};
use downbeat_storage::cache::GenerationCache;
use downbeat_storage::records::{self, encode_extension};
use downbeat_storage::{Outcome, SessionOutcome, SinceCheckpoint, Write};
use rusqlite::{Connection, ErrorCode};

use super::co_values::{self, CoValue, Head, blob};
use super::record::{StateRecord, hash, header_key, place, run_key, state_key};
use crate::error::{FileError, in_co_value, in_session};
use crate::totals::Totals;

/// Entries of each kind in the cache, about 10 MB. More sessions than clients of a node write at
/// the same time.
const CACHED: usize = 32_768;

/// Bytes of the tail of a log at most. Such a row just fits into a page.
const MAX_TAIL: usize = 1_900;

const BEYOND_END: &str = "there is a run after the end of the log";
const NO_TAIL: &str = "the tail of the log is missing";

/// The writer's cache of the file.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    co_values: GenerationCache<CoValueId, CoValue, CACHED>,
    /// By the row of the CoValue and the session.
    heads: GenerationCache<(i64, SessionId), Head, CACHED>,
    /// The row of the next new CoValue.
    next_row: Option<i64>,
    /// The number of the next new session.
    next_session: Option<i64>,
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
        let (stored, header) = match (self.co_value(id)?, write) {
            (None, Write::Append { header: Some(header), .. }) => (None, Some(header)),
            (None, _) => return Ok(Outcome::NoHeader),
            (stored, _) => (stored, None),
        };
        let mut co_value = match stored {
            Some(co_value) => co_value,
            None => self.new_co_value()?,
        };
        let outcomes = match write {
            Write::Append { sessions, .. } => {
                let extend = |content| self.extend(id, &mut co_value, content);
                sessions.iter().map(extend).collect::<Result<_, _>>()?
            }
            Write::Tombstone { session, .. } => {
                vec![self.write_tombstone(id, &mut co_value, session)?]
            }
        };
        // After the sessions, so that a new CoValue is written once.
        if let Some(header) = header {
            self.create(id, co_value, header)?;
        } else if stored.is_some_and(|stored| stored.state != co_value.state) {
            self.update(id, co_value)?;
        }
        Ok(Outcome::Applied(outcomes))
    }

    fn extend(
        &mut self,
        id: CoValueId,
        co_value: &mut CoValue,
        content: &SessionContent,
    ) -> Result<SessionOutcome, FileError> {
        if co_value.state.deleted && !content.session.is_delete() {
            return Ok(SessionOutcome::Deleted);
        }
        let head = self.head(id, co_value, &content.session)?;
        let stored = head.map_or(0, |head| head.count);
        if stored != content.after {
            return Ok(SessionOutcome::Conflict { stored });
        }
        if !content.transactions.is_empty() {
            self.append(id, co_value, head, content)?;
        }
        Ok(SessionOutcome::Applied)
    }

    fn write_tombstone(
        &mut self,
        id: CoValueId,
        co_value: &mut CoValue,
        content: &SessionContent,
    ) -> Result<SessionOutcome, FileError> {
        if !content.session.is_delete() {
            return Ok(SessionOutcome::Deleted);
        }
        let stored = self.head(id, co_value, &content.session)?.map_or(0, |head| head.count);
        let outcome = if content.transactions.is_empty() {
            SessionOutcome::Conflict { stored }
        } else if stored >= content.end() {
            SessionOutcome::Applied
        } else {
            self.extend(id, co_value, content)?
        };
        if outcome == SessionOutcome::Applied && !co_value.state.deleted {
            let insert = "INSERT INTO deletedCoValues (coValueID, status) VALUES (?1, 0)
                ON CONFLICT (coValueID) DO UPDATE SET status = 0";
            self.connection.prepare_cached(insert)?.execute([id.as_str()])?;
            self.totals.deleted += 1;
            co_value.state.deleted = true;
        }
        Ok(outcome)
    }

    /// Writes an extension that fits, with at least one transaction.
    fn append(
        &mut self,
        id: CoValueId,
        co_value: &mut CoValue,
        stored: Option<Head>,
        content: &SessionContent,
    ) -> Result<(), FileError> {
        let SessionContent { session, transactions, last_signature, .. } = content;
        let mut since_checkpoint = stored.map_or(SinceCheckpoint(0), |head| head.since_checkpoint);
        let checkpoint = since_checkpoint.extend(transactions);
        let added = content.json_len();
        let head = Head {
            ses: match stored {
                Some(head) => head.ses,
                None => self.new_session()?,
            },
            count: content.end(),
            since_checkpoint,
            bytes: stored.map_or(0, |head| head.bytes) + added,
            signature: *last_signature,
            tail: 0,
        };
        let tail = self.extend_log(id, content, (stored, head), checkpoint)?;
        let head = Head { tail, ..head };
        let record = head.encode(id, session);
        if stored.is_some() {
            let mut update = self.connection.prepare_cached(
                "UPDATE sessions SET head = ?3 WHERE coValue = ?1 AND sessionID = ?2",
            )?;
            if update.execute((co_value.row, session.as_str(), record))? != 1 {
                return Err(in_session(id, session, &"its row cannot be found again"));
            }
        } else {
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO sessions (coValue, sessionID, ses, head) VALUES (?1, ?2, ?3, ?4)",
            )?;
            insert.execute((co_value.row, session.as_str(), head.ses, record))?;
            co_value.state.sessions += 1;
            self.totals.sessions += 1;
        }
        self.totals.transactions += i64::try_from(transactions.len()).unwrap_or(i64::MAX);
        self.totals.bytes += i64::try_from(added).unwrap_or(i64::MAX);
        self.remembered.heads.insert((co_value.row, session.clone()), head);
        Ok(())
    }

    /// Writes an extension, after which the log has the head `next`. Returns the bytes of the tail.
    ///
    /// Small extensions of a stored session gather in its tail, whose row stays in its page while
    /// it grows. A row in the log for each of them would split a page every few edits, and SQLite
    /// then writes the pages beside it as well.
    fn extend_log(
        &self,
        id: CoValueId,
        content: &SessionContent,
        (stored, next): (Option<Head>, Head),
        checkpoint: bool,
    ) -> Result<usize, FileError> {
        let SessionContent { session, transactions, last_signature, .. } = content;
        let key = run_key(id, session, next.count);
        let record = encode_extension(&key, transactions, last_signature, checkpoint);
        if let Some(stored) = stored.filter(|stored| stored.tail > 0) {
            if stored.tail + record.len() <= MAX_TAIL {
                let record = self.join(id, session, stored, (&key, &record))?;
                self.replace_tail(next.ses, &record)?;
                return Ok(record.len());
            }
            self.move_tail(id, session, stored)?;
        }
        if stored.is_some() && record.len() <= MAX_TAIL / 2 {
            self.replace_tail(next.ses, &record)?;
            return Ok(record.len());
        }
        let Some(place) = place(next.ses, next.count) else {
            return Err(in_session(id, session, &"the log is too long"));
        };
        let insert = "INSERT INTO log (place, record) VALUES (?1, ?2)";
        match self.connection.prepare_cached(insert)?.execute((place, record)) {
            Err(error) if is_conflict(&error) => Err(in_session(id, session, &BEYOND_END)),
            result => Ok(result.map(|_| 0)?),
        }
    }

    /// The record of the tail of a log, followed by another extension.
    fn join(
        &self,
        id: CoValueId,
        session: &SessionId,
        stored: Head,
        (key, record): (&[u8], &[u8]),
    ) -> Result<Vec<u8>, FileError> {
        let mut query =
            self.connection.prepare_cached("SELECT record FROM tails WHERE ses = ?1")?;
        let mut rows = query.query([stored.ses])?;
        let row = rows.next()?.ok_or_else(|| in_session(id, session, &NO_TAIL))?;
        let tail = records::decode_bytes(&run_key(id, session, stored.count), blob(row, 0)?)
            .map_err(|error| in_session(id, session, &format_args!("tail: {error}")))?;
        let body = record.get(records::PREFIX_LEN..).unwrap_or_default();
        Ok(records::encode_bytes(key, &[tail, body].concat()))
    }

    fn replace_tail(&self, ses: i64, record: &[u8]) -> Result<(), FileError> {
        let replace = "INSERT INTO tails (ses, record) VALUES (?1, ?2)
            ON CONFLICT (ses) DO UPDATE SET record = excluded.record";
        self.connection.prepare_cached(replace)?.execute((ses, record))?;
        Ok(())
    }

    /// Moves the tail of a log into the log.
    fn move_tail(&self, id: CoValueId, session: &SessionId, head: Head) -> Result<(), FileError> {
        let insert = "INSERT INTO log (place, record) SELECT ?2, record FROM tails WHERE ses = ?1";
        let place = place(head.ses, head.count);
        match self.connection.prepare_cached(insert)?.execute((head.ses, place)) {
            Err(error) if is_conflict(&error) => Err(in_session(id, session, &BEYOND_END)),
            Ok(0) => Err(in_session(id, session, &NO_TAIL)),
            result => {
                result?;
                let delete = "DELETE FROM tails WHERE ses = ?1";
                self.connection.prepare_cached(delete)?.execute([head.ses])?;
                Ok(())
            }
        }
    }

    /// The number of a session that is not in the table yet.
    fn new_session(&mut self) -> Result<i64, FileError> {
        let ses = match self.remembered.next_session {
            Some(ses) => ses,
            None => co_values::next_session(self.connection)?,
        };
        self.remembered.next_session = Some(ses.saturating_add(1));
        Ok(ses)
    }

    /// A CoValue that is not in the table yet.
    fn new_co_value(&mut self) -> Result<CoValue, FileError> {
        let row = match self.remembered.next_row {
            Some(row) => row,
            None => co_values::next_row(self.connection)?,
        };
        self.remembered.next_row = Some(row.saturating_add(1));
        let state = StateRecord { deleted: false, sessions: 0 };
        Ok(CoValue { row, state })
    }

    fn create(
        &mut self,
        id: CoValueId,
        co_value: CoValue,
        header: &Header,
    ) -> Result<(), FileError> {
        let header = records::encode_bytes(&header_key(id), header.json());
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO coValues (rowID, id, hash, state, header) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let state = encode_state(id, co_value.state);
        match insert.execute((co_value.row, id.as_str(), hash(id), state, header)) {
            Err(error) if is_conflict(&error) => {
                return Err(in_co_value(id, &"it is stored, but is not found by its id"));
            }
            result => result.map(drop)?,
        }
        self.totals.co_values += 1;
        self.remembered.co_values.insert(id, co_value);
        Ok(())
    }

    /// Writes the state of a stored CoValue.
    pub(crate) fn update(&mut self, id: CoValueId, co_value: CoValue) -> Result<(), FileError> {
        let update = "UPDATE coValues SET state = ?2 WHERE rowID = ?1";
        let mut update = self.connection.prepare_cached(update)?;
        if update.execute((co_value.row, encode_state(id, co_value.state)))? != 1 {
            return Err(in_co_value(id, &"its row cannot be found again"));
        }
        self.remembered.co_values.insert(id, co_value);
        Ok(())
    }

    fn co_value(&mut self, id: CoValueId) -> Result<Option<CoValue>, FileError> {
        if let Some(known) = self.remembered.co_values.get(&id) {
            return Ok(Some(*known));
        }
        let found = co_values::co_value(self.connection, id)?;
        if let Some(co_value) = found {
            self.remembered.co_values.insert(id, co_value);
        }
        Ok(found)
    }

    fn head(
        &mut self,
        id: CoValueId,
        co_value: &CoValue,
        session: &SessionId,
    ) -> Result<Option<Head>, FileError> {
        if co_value.state.sessions == 0 {
            return Ok(None);
        }
        let key = (co_value.row, session.clone());
        if let Some(known) = self.remembered.heads.get(&key) {
            return Ok(Some(*known));
        }
        let found = co_values::head(self.connection, id, co_value.row, session)?;
        if let Some(head) = found {
            self.remembered.heads.insert(key, head);
        }
        Ok(found)
    }
}

impl Remembered {
    /// Forgets a session that is erased.
    pub(crate) fn forget_session(&mut self, co_value: i64, session: SessionId) {
        self.heads.remove(&(co_value, session));
    }
}

fn encode_state(id: CoValueId, state: StateRecord) -> Vec<u8> {
    records::encode(&state_key(id), &state, size_of::<StateRecord>())
}

fn is_conflict(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

//! Reads the records of a catalogue, as the content of a store.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId, Signature};
use downbeat_storage::{Damage, Runs, StorageError, StoredCoValue, StoredSession};

use super::catalogue::{Catalogue, FoundCoValue, FoundSession, Place, Version};
use super::scan::read_blob;
use crate::chunks::{Log, read_header};
use crate::keys;
use crate::read::{decode_co_value, decode_head};
use crate::tree::LOG_FILE;

/// A key and a value, read again.
type FoundRecord = Result<(Vec<u8>, Vec<u8>), StorageError>;

/// The found records, and the files that hold them.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) catalogue: Catalogue,
    dir: PathBuf,
    log: Mutex<File>,
}

impl Found {
    pub(super) fn new(catalogue: Catalogue, dir: &Path) -> io::Result<Self> {
        let log = Mutex::new(File::open(dir.join(LOG_FILE))?);
        Ok(Self { catalogue, dir: dir.to_owned(), log })
    }

    /// See [`Storage::load`](downbeat_storage::Storage::load). Sessions count what they had, as far
    /// as that is known, and not what is left.
    pub(super) fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        let Some(found) = self.catalogue.co_values.get(&id) else { return Ok(None) };
        let Some(version) = &found.record else {
            let reason = format!(
                "its header is lost, so the rest of it cannot be used: {} sessions with {} \
                 transactions",
                found.sessions.len(),
                found.sessions.values().map(FoundSession::count).sum::<u64>()
            );
            return Err(Damage::in_co_value(id, reason).into());
        };
        let key = keys::co_value(id);
        let value = self.value(version)?;
        let co_value = decode_co_value(id, &key, &value)?;
        let chunk = |key: &[u8]| match keys::parse(key) {
            Some(keys::Key::HeaderChunk(_, chunk)) => {
                found.header_chunks.get(&chunk).map(|version| self.value(version)).transpose()
            }
            _ => Ok(None),
        };
        let header = read_header(chunk, id, &co_value)?;
        let sessions = readable_sessions(found)
            .filter_map(|(session, log)| self.stored_session(id, session, log).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Some(StoredCoValue { header, sessions, deleted: found.deleted }))
    }

    /// See [`Storage::read`](downbeat_storage::Storage::read).
    pub(super) fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let mut runs = Runs::new(max_bytes);
        let found = self.catalogue.co_values.get(&id);
        for (session, found) in found.into_iter().flat_map(readable_sessions) {
            let (have, count) = (have.get(session), found.count());
            if have < count && !self.read_log(id, session, found, have, &mut runs)? {
                break;
            }
        }
        Ok(runs.into_vec())
    }

    /// Reads a log beyond `have`. Returns whether there is budget for more.
    fn read_log(
        &self,
        id: CoValueId,
        session: &SessionId,
        found: &FoundSession,
        have: u64,
        runs: &mut Runs,
    ) -> Result<bool, StorageError> {
        let mut log = self.log(id, session, found, have);
        while log.position() < found.count() {
            let Some(extension) = log.next()? else {
                let missing = found.count() - log.position();
                let reason = format!("{missing} transactions are missing at the end");
                return Err(Damage::in_session(id, session, reason).into());
            };
            if !runs.push(session, extension) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn log<'a>(
        &'a self,
        id: CoValueId,
        session: &'a SessionId,
        found: &'a FoundSession,
        position: u64,
    ) -> Log<'a, impl Iterator<Item = FoundRecord> + 'a> {
        let prefix = keys::log(id, session);
        let chunks = found.chunks.range((position.saturating_add(1), 0)..);
        let records = chunks.map(move |(&(end, chunk), version)| {
            Ok((keys::log_chunk(&prefix, end, chunk), self.value(version)?))
        });
        Log::over(records, id, session, position)
    }

    /// `None` if not even one signature of the session is left.
    pub(super) fn stored_session(
        &self,
        id: CoValueId,
        session: &SessionId,
        found: &FoundSession,
    ) -> Result<Option<StoredSession>, StorageError> {
        let (last_signature, since_checkpoint) = match &found.head {
            Some((_, version)) => {
                let (key, value) = (keys::head(id, session), self.value(version)?);
                let (head, signature) = decode_head(id, session, &key, &value)?;
                (signature, head.since_checkpoint)
            }
            None => match self.last_signature(id, session, found)? {
                Some(signature) => (signature, 0),
                None => return Ok(None),
            },
        };
        let count = found.count();
        Ok(Some(StoredSession {
            session: session.clone(),
            count,
            last_signature,
            since_checkpoint,
        }))
    }

    /// The signature of the last extension that is whole.
    fn last_signature(
        &self,
        id: CoValueId,
        session: &SessionId,
        found: &FoundSession,
    ) -> Result<Option<Signature>, StorageError> {
        let mut before = u64::MAX;
        while let Some((&(end, _), _)) = found.chunks.range(..(before, 0)).next_back() {
            let mut log = self.log(id, session, found, end.saturating_sub(1));
            match log.next() {
                Ok(Some(extension)) => return Ok(Some(extension.signature)),
                Ok(None) | Err(StorageError::Corrupt(_)) => before = end,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads the value of a record again.
    fn value(&self, version: &Version) -> Result<Vec<u8>, StorageError> {
        let read = match &version.place {
            Place::Memory(value) => Ok(value.to_vec()),
            Place::Blob { name, offset, len } => {
                read_blob(&self.dir, *name, *offset, Some(u64::from(*len)))
            }
            Place::Log { offset, len } => {
                let mut value = vec![0; *len as usize];
                let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                log.seek(SeekFrom::Start(*offset))
                    .and_then(|_| log.read_exact(&mut value))
                    .map(|()| value)
            }
        };
        read.map_err(|error| StorageError::io(format!("cannot read {}", self.dir.display()), error))
    }
}

impl FoundSession {
    /// The number of transactions that the log had, as far as that is known.
    pub(super) fn count(&self) -> u64 {
        let head = self.head.as_ref().map_or(0, |(count, _)| *count);
        let end = self.chunks.last_key_value().map_or(0, |((end, _), _)| *end);
        head.max(end)
    }
}

/// The sessions that can be read: of a deleted CoValue only those that delete it.
pub(super) fn readable_sessions(
    found: &FoundCoValue,
) -> impl Iterator<Item = (&SessionId, &FoundSession)> {
    let is_readable =
        |(session, _): &(&SessionId, &FoundSession)| !found.deleted || session.is_delete();
    found.sessions.iter().filter(is_readable)
}

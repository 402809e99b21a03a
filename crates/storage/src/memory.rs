//! A store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use downbeat_protocol::{
    CoValueId, Header, SessionContent, SessionCounts, SessionId, Signature, Transaction,
};

use crate::error::StorageError;
use crate::runs::{Extension, Runs, SinceCheckpoint};
use crate::storage::Storage;
use crate::types::{
    Erased, Outcome, SessionOutcome, StoreStats, StoredCoValue, StoredSession, Unsynced,
    UnsyncedUpdate, Write,
};

/// Transactions that one call of `erase` removes at most. Dropping them, and so the lock of the
/// store, takes far less than a millisecond.
const MAX_ERASED_PER_CALL: usize = 1_000;

/// A store in memory, for tests and for servers that may lose their data.
///
/// Keeps the [`Storage`] contract except for durability: the data is gone when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    co_values: BTreeMap<CoValueId, Entry>,
    /// Deleted CoValues that still hold other sessions than delete sessions.
    erasable: BTreeSet<CoValueId>,
    unsynced: BTreeSet<Unsynced>,
    stats: StoreStats,
    closed: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    header: Header,
    sessions: BTreeMap<SessionId, Log>,
    deleted: bool,
}

#[derive(Debug, Clone, Default)]
struct Log {
    transactions: Vec<Transaction>,
    ends: Vec<End>,
    since_checkpoint: SinceCheckpoint,
}

/// The end of an extension.
#[derive(Debug, Clone)]
struct End {
    count: usize,
    signature: Signature,
    checkpoint: bool,
}

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of the store in its current state, independent of this one.
    pub fn snapshot(&self) -> Result<Self, StorageError> {
        let state = self.open()?.clone();
        Ok(Self { state: Mutex::new(state) })
    }

    /// Locks the state, unless the store is closed. Every change under the lock is completed, so a
    /// poisoned lock holds a good state.
    fn open(&self) -> Result<MutexGuard<'_, State>, StorageError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(StorageError::Closed) } else { Ok(state) }
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let mut state = self.open()?;
        Ok(batch.into_iter().map(|write| state.write(write)).collect())
    }

    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        Ok(self.open()?.co_values.get(&id).map(|entry| StoredCoValue {
            header: entry.header.clone(),
            sessions: entry.visible().filter_map(stored_session).collect(),
            deleted: entry.deleted,
        }))
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        let state = self.open()?;
        let mut runs = Runs::new(max_bytes);
        if let Some(entry) = state.co_values.get(&id) {
            for (session, log) in entry.visible() {
                if !log.read(session, have.get(session), &mut runs) {
                    break;
                }
            }
        }
        Ok(runs.into_vec())
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        let state = self.open()?;
        Ok(state
            .co_values
            .range((beyond(after), Bound::Unbounded))
            .map(|(id, _)| *id)
            .take(limit)
            .collect())
    }

    async fn count(&self) -> Result<u64, StorageError> {
        Ok(self.open()?.stats.co_values)
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        Ok(self.open()?.erase(id))
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        let state = self.open()?;
        Ok(state.erasable.range((beyond(after), Bound::Unbounded)).copied().take(limit).collect())
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        let mut state = self.open()?;
        for UnsyncedUpdate { entry, synced } in updates {
            if synced {
                state.unsynced.remove(&entry);
            } else {
                state.unsynced.insert(entry);
            }
        }
        Ok(())
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        let state = self.open()?;
        Ok(state.unsynced.range((beyond(after), Bound::Unbounded)).take(limit).cloned().collect())
    }

    async fn stats(&self) -> Result<StoreStats, StorageError> {
        Ok(self.open()?.stats)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }
}

/// The lower bound of a page that follows `after`.
fn beyond<T>(after: Option<T>) -> Bound<T> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

fn stored_session((session, log): (&SessionId, &Log)) -> Option<StoredSession> {
    log.ends.last().map(|end| StoredSession {
        session: session.clone(),
        count: log.count(),
        last_signature: end.signature,
        since_checkpoint: log.since_checkpoint.0,
    })
}

impl State {
    fn write(&mut self, write: Write) -> Outcome {
        match write {
            Write::Append { id, header, sessions } => {
                if let Some(header) = header {
                    self.co_values.entry(id).or_insert_with(|| {
                        self.stats.co_values += 1;
                        Entry { header, sessions: BTreeMap::new(), deleted: false }
                    });
                }
                let Some(entry) = self.co_values.get_mut(&id) else { return Outcome::NoHeader };
                let stats = &mut self.stats;
                Outcome::Applied(
                    sessions.into_iter().map(|content| entry.extend(content, stats)).collect(),
                )
            }
            Write::Tombstone { id, session } => {
                let Some(entry) = self.co_values.get_mut(&id) else { return Outcome::NoHeader };
                let outcome = entry.write_tombstone(session, &mut self.stats);
                if entry.deleted && entry.sessions.keys().any(|session| !session.is_delete()) {
                    self.erasable.insert(id);
                }
                Outcome::Applied(vec![outcome])
            }
        }
    }

    fn erase(&mut self, id: CoValueId) -> Erased {
        let mut erased = Erased::default();
        if !self.erasable.contains(&id) {
            return erased;
        }
        let mut budget = MAX_ERASED_PER_CALL;
        if let Some(entry) = self.co_values.get_mut(&id) {
            let before = entry.sessions.len();
            entry.sessions.retain(|session, log| {
                if session.is_delete() {
                    return true;
                }
                let kept = log.transactions.len().saturating_sub(budget);
                for tx in log.transactions.drain(kept..) {
                    budget -= 1;
                    erased.transactions += 1;
                    erased.bytes += tx.json().len() as u64;
                }
                kept > 0
            });
            self.stats.sessions -= (before - entry.sessions.len()) as u64;
            erased.more = entry.sessions.keys().any(|session| !session.is_delete());
        }
        self.stats.transactions -= erased.transactions;
        self.stats.transaction_bytes -= erased.bytes;
        if !erased.more {
            self.erasable.remove(&id);
        }
        erased
    }
}

impl Entry {
    /// The sessions that can be read.
    fn visible(&self) -> impl Iterator<Item = (&SessionId, &Log)> {
        self.sessions.iter().filter(|(session, _)| !self.deleted || session.is_delete())
    }

    fn extend(&mut self, content: SessionContent, stats: &mut StoreStats) -> SessionOutcome {
        if self.deleted && !content.session.is_delete() {
            return SessionOutcome::Deleted;
        }
        let stored = self.sessions.get(&content.session).map_or(0, Log::count);
        if stored != content.after {
            return SessionOutcome::Conflict { stored };
        }
        if content.transactions.is_empty() {
            return SessionOutcome::Applied;
        }
        if stored == 0 {
            stats.sessions += 1;
        }
        stats.transactions += content.transactions.len() as u64;
        stats.transaction_bytes += content.json_len();
        self.sessions
            .entry(content.session)
            .or_default()
            .extend(content.transactions, content.last_signature);
        SessionOutcome::Applied
    }

    fn write_tombstone(
        &mut self,
        content: SessionContent,
        stats: &mut StoreStats,
    ) -> SessionOutcome {
        if !content.session.is_delete() {
            return SessionOutcome::Deleted;
        }
        let stored = self.sessions.get(&content.session).map_or(0, Log::count);
        let outcome = if content.transactions.is_empty() {
            SessionOutcome::Conflict { stored }
        } else if stored >= content.end() {
            SessionOutcome::Applied
        } else {
            self.extend(content, stats)
        };
        if outcome == SessionOutcome::Applied && !self.deleted {
            self.deleted = true;
            stats.deleted += 1;
        }
        outcome
    }
}

impl Log {
    fn count(&self) -> u64 {
        self.transactions.len() as u64
    }

    fn extend(&mut self, transactions: Vec<Transaction>, signature: Signature) {
        let checkpoint = self.since_checkpoint.extend(&transactions);
        self.transactions.extend(transactions);
        self.ends.push(End { count: self.transactions.len(), signature, checkpoint });
    }

    /// Adds the transactions after the first `have`. Returns whether there is budget for more.
    fn read(&self, session: &SessionId, have: u64, runs: &mut Runs) -> bool {
        let Some(mut position) =
            usize::try_from(have).ok().filter(|&have| have < self.transactions.len())
        else {
            return true;
        };
        let first = self.ends.partition_point(|end| end.count <= position);
        for end in &self.ends[first..] {
            let extension = Extension {
                after: position as u64,
                transactions: self.transactions[position..end.count].iter().cloned(),
                signature: end.signature,
                checkpoint: end.checkpoint,
            };
            if !runs.push(session, extension) {
                return false;
            }
            position = end.count;
        }
        true
    }
}

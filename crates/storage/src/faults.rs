//! A store that fails when it is told to, for the tests of those who use stores.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use tokio::sync::Notify;

use crate::error::StorageError;
use crate::storage::Storage;
use crate::types::{Erased, Outcome, Stats, Stored, Unsynced, UnsyncedUpdate, Write};

/// What a fault is injected into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Storage::append`].
    Append,
    /// [`Storage::load`].
    Load,
    /// [`Storage::read`].
    Read,
    /// [`Storage::list`].
    List,
    /// [`Storage::count`].
    Count,
    /// [`Storage::erase`].
    Erase,
    /// [`Storage::erasable`].
    Erasable,
    /// [`Storage::track_unsynced`].
    TrackUnsynced,
    /// [`Storage::unsynced`].
    Unsynced,
    /// [`Storage::stats`].
    Stats,
    /// [`Storage::check`].
    Check,
    /// [`Storage::close`].
    Close,
}

/// What goes wrong with one call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call fails and does nothing.
    Fail(StorageError),
    /// The call does what it should, and fails all the same: what a caller sees when a flush
    /// fails, or when a connection breaks before the answer.
    FailAfter(StorageError),
    /// Of the batch (of an append, or of tracking) only so many writes are applied; then the call
    /// fails. A store that keeps the contract does not do this; it shows what relies on it.
    Torn {
        /// How many writes are applied.
        writes: usize,
        /// The error.
        error: StorageError,
    },
    /// The call begins after this time.
    Delay(Duration),
    /// The call begins after a permit of this gate ([`Notify::notify_one`]).
    Wait(Arc<Notify>),
    /// The call panics, as that of a backend with a bug.
    Panic,
}

/// A store around another one, which answers as that one does but for the faults that are injected.
///
/// ```
/// use downbeat_storage::{Fault, FaultyStorage, MemoryStorage, Operation, Storage, StorageError};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = FaultyStorage::new(MemoryStorage::new());
/// store.inject(Operation::Count, Fault::Fail(StorageError::Closed));
/// assert!(store.count().await.is_err());
/// assert_eq!(store.count().await.unwrap(), 0);
/// # });
/// ```
#[derive(Debug)]
pub struct FaultyStorage<S> {
    inner: S,
    faults: Mutex<HashMap<Operation, VecDeque<Fault>>>,
}

impl<S: Storage> FaultyStorage<S> {
    /// A store that does not fail yet.
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    /// Lets the next call of an operation that has no fault yet go wrong. Several faults of one
    /// operation hit one call each, in the order in which they were injected.
    pub fn inject(&self, operation: Operation, fault: Fault) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.entry(operation).or_default().push_back(fault);
    }

    /// The store behind.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Takes the fault of this call, and waits if that is what it is.
    async fn fault(&self, operation: Operation) -> Option<Fault> {
        let fault = {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.get_mut(&operation)?.pop_front()?
        };
        match fault {
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Wait(gate) => gate.notified().await,
            Fault::Panic => panic!("this panic was injected into {operation:?}"),
            fault => return Some(fault),
        }
        None
    }

    /// Carries out a call without a batch.
    async fn call<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        match self.fault(operation).await {
            Some(Fault::Fail(error) | Fault::Torn { error, .. }) => Err(error),
            Some(Fault::FailAfter(error)) => {
                call.await?;
                Err(error)
            }
            Some(Fault::Delay(_) | Fault::Wait(_) | Fault::Panic) | None => call.await,
        }
    }

    /// The writes of a batch that are to be applied, and the error for afterwards.
    async fn tear<T>(
        &self,
        operation: Operation,
        mut batch: Vec<T>,
    ) -> Result<(Vec<T>, Option<StorageError>), StorageError> {
        match self.fault(operation).await {
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::FailAfter(error)) => Ok((batch, Some(error))),
            Some(Fault::Torn { writes, error }) => {
                batch.truncate(writes);
                Ok((batch, Some(error)))
            }
            Some(Fault::Delay(_) | Fault::Wait(_) | Fault::Panic) | None => Ok((batch, None)),
        }
    }
}

#[async_trait]
impl<S: Storage> Storage for FaultyStorage<S> {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let (batch, error) = self.tear(Operation::Append, batch).await?;
        let outcomes = self.inner.append(batch).await?;
        error.map_or(Ok(outcomes), Err)
    }

    async fn load(&self, id: CoValueId) -> Result<Option<Stored>, StorageError> {
        self.call(Operation::Load, self.inner.load(id)).await
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        self.call(Operation::Read, self.inner.read(id, have, max_bytes)).await
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.call(Operation::List, self.inner.list(after, limit)).await
    }

    async fn count(&self) -> Result<u64, StorageError> {
        self.call(Operation::Count, self.inner.count()).await
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        self.call(Operation::Erase, self.inner.erase(id)).await
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        self.call(Operation::Erasable, self.inner.erasable(after, limit)).await
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        let (updates, error) = self.tear(Operation::TrackUnsynced, updates).await?;
        self.inner.track_unsynced(updates).await?;
        error.map_or(Ok(()), Err)
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        self.call(Operation::Unsynced, self.inner.unsynced(after, limit)).await
    }

    async fn stats(&self) -> Result<Stats, StorageError> {
        self.call(Operation::Stats, self.inner.stats()).await
    }

    async fn check(&self) -> Result<(), StorageError> {
        self.call(Operation::Check, self.inner.check()).await
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.call(Operation::Close, self.inner.close()).await
    }
}

//! A store that fails on request, to test code that uses a store.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts};
use tokio::sync::Notify;

use crate::error::StorageError;
use crate::storage::Storage;
use crate::types::{Erased, Outcome, StoreStats, StoredCoValue, Unsynced, UnsyncedUpdate, Write};

/// The operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
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

/// How one call goes wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum InjectedFailure {
    /// The call fails and does nothing.
    Fail(StorageError),
    /// The call takes effect, and fails all the same, as after a failed flush or a lost answer.
    FailAfter(StorageError),
    /// The first `writes` writes of the batch take effect; then the call fails. Breaks the
    /// contract, so it shows which code relies on atomic batches.
    Torn {
        /// Number of applied writes.
        writes: usize,
        /// The error.
        error: StorageError,
    },
    /// The call begins after this time.
    Delay(Duration),
    /// The call begins after [`Notify::notify_one`].
    Wait(Arc<Notify>),
    /// The call panics, like a backend with a bug.
    Panic,
}

/// Wraps a store, and answers like it except for the injected failures.
///
/// ```
/// use downbeat_storage::{
///     FaultyStorage, InjectedFailure, MemoryStorage, Operation, Storage, StorageError,
/// };
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = FaultyStorage::new(MemoryStorage::new());
/// store.inject(Operation::Count, InjectedFailure::Fail(StorageError::Closed));
/// assert!(store.count().await.is_err());
/// assert_eq!(store.count().await.unwrap(), 0);
/// # });
/// ```
#[derive(Debug)]
pub struct FaultyStorage<S> {
    inner: S,
    failures: Mutex<HashMap<Operation, VecDeque<InjectedFailure>>>,
}

impl<S: Storage> FaultyStorage<S> {
    /// Wraps a store. No failure is injected yet.
    pub fn new(inner: S) -> Self {
        Self { inner, failures: Mutex::default() }
    }

    /// Makes the next call of an operation go wrong. Several failures of one operation hit one call
    /// each, in the order in which they were injected.
    pub fn inject(&self, operation: Operation, failure: InjectedFailure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.entry(operation).or_default().push_back(failure);
    }

    /// The wrapped store.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Takes the failure of this call. Waits here if the failure is a wait.
    async fn next_failure(&self, operation: Operation) -> Option<InjectedFailure> {
        let failure = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.get_mut(&operation)?.pop_front()?
        };
        match failure {
            InjectedFailure::Delay(time) => tokio::time::sleep(time).await,
            InjectedFailure::Wait(gate) => gate.notified().await,
            InjectedFailure::Panic => panic!("injected panic in {operation:?}"),
            failure => return Some(failure),
        }
        None
    }

    /// Carries out a call without a batch.
    async fn call<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        match self.next_failure(operation).await {
            Some(InjectedFailure::Fail(error) | InjectedFailure::Torn { error, .. }) => Err(error),
            Some(InjectedFailure::FailAfter(error)) => {
                call.await?;
                Err(error)
            }
            Some(InjectedFailure::Delay(_) | InjectedFailure::Wait(_) | InjectedFailure::Panic)
            | None => call.await,
        }
    }

    /// The writes of a batch to apply, and the error to return after them.
    async fn tear<T>(
        &self,
        operation: Operation,
        mut batch: Vec<T>,
    ) -> Result<(Vec<T>, Option<StorageError>), StorageError> {
        match self.next_failure(operation).await {
            Some(InjectedFailure::Fail(error)) => Err(error),
            Some(InjectedFailure::FailAfter(error)) => Ok((batch, Some(error))),
            Some(InjectedFailure::Torn { writes, error }) => {
                batch.truncate(writes);
                Ok((batch, Some(error)))
            }
            Some(InjectedFailure::Delay(_) | InjectedFailure::Wait(_) | InjectedFailure::Panic)
            | None => Ok((batch, None)),
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

    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
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

    async fn stats(&self) -> Result<StoreStats, StorageError> {
        self.call(Operation::Stats, self.inner.stats()).await
    }

    async fn check(&self) -> Result<(), StorageError> {
        self.call(Operation::Check, self.inner.check()).await
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.call(Operation::Close, self.inner.close()).await
    }
}

//! Panics as errors. The node catches panics here and nowhere else, around two kinds of calls:
//! those of a storage, whose backend may be someone else's code, and those that verify what peers
//! send. Backends and other tasks need not catch panics: a panic elsewhere is a bug that ends the
//! node, which [`Node::failed`](crate::Node::failed) reports.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};
use downbeat_storage::{
    Erased, Outcome, Storage, StorageError, StoreStats, StoredCoValue, Unsynced, UnsyncedUpdate,
    Write,
};

/// Calls another storage. After a panic in it the node goes on as if a disk had failed, so that the
/// task which made the call is not lost.
pub(crate) struct CatchPanics(pub Arc<dyn Storage>);

#[derive(Debug, thiserror::Error)]
#[error("it panicked: {0}")]
struct Panicked(String);

/// Runs a future. Returns the message of its panic, if it panics.
pub(crate) async fn catch<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // After a panic the future is not polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
        }
    })
    .await
}

/// Makes a call to storage. A panic is an error of the backend.
async fn call<T>(
    action: &'static str,
    answer: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    catch(answer).await.unwrap_or_else(|message| {
        let source = Arc::new(Panicked(message));
        Err(StorageError::Backend { action: action.to_owned(), source })
    })
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[async_trait]
impl Storage for CatchPanics {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        call("storing content", self.0.append(batch)).await
    }

    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError> {
        call("looking up a CoValue", self.0.load(id)).await
    }

    async fn load_many(
        &self,
        ids: Vec<CoValueId>,
    ) -> Vec<Result<Option<StoredCoValue>, StorageError>> {
        let together = async { Ok(self.0.load_many(ids.clone()).await) };
        match call("looking up CoValues", together).await {
            Ok(answers) if answers.len() == ids.len() => return answers,
            _ => {}
        }
        // One by one, so that a panic over one of them does not fail the others.
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            answers.push(self.load(id).await);
        }
        answers
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        call("reading content", self.0.read(id, have, max_bytes)).await
    }

    async fn read_many(
        &self,
        have: Vec<KnownState>,
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let together = async { Ok(self.0.read_many(have, max_bytes).await) };
        // Without answers, each is read by itself.
        call("reading content", together).await.unwrap_or_default()
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        call("listing CoValues", self.0.list(after, limit)).await
    }

    async fn count(&self) -> Result<u64, StorageError> {
        call("counting CoValues", self.0.count()).await
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        call("erasing a deleted CoValue", self.0.erase(id)).await
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        call("listing deleted CoValues", self.0.erasable(after, limit)).await
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        call("noting unsynced CoValues", self.0.track_unsynced(updates)).await
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        call("listing unsynced CoValues", self.0.unsynced(after, limit)).await
    }

    async fn stats(&self) -> Result<StoreStats, StorageError> {
        call("measuring the store", self.0.stats()).await
    }

    async fn check(&self) -> Result<(), StorageError> {
        call("checking the store", self.0.check()).await
    }

    async fn close(&self) -> Result<(), StorageError> {
        call("closing the store", self.0.close()).await
    }
}

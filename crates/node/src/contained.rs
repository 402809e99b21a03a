//! A storage whose panics are errors.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};
use downbeat_storage::{
    Erased, Outcome, Stats, Storage, StorageError, Stored, Unsynced, UnsyncedUpdate, Write,
};

/// Calls another storage. A panic in there is a bug of the backend; the node goes on as if a disk
/// had failed, instead of losing the task that happened to call.
pub(crate) struct Contained(pub Arc<dyn Storage>);

#[derive(Debug, thiserror::Error)]
#[error("it panicked: {0}")]
struct Panicked(String);

/// Waits for an answer, or for a panic.
async fn contain<T>(
    call: &'static str,
    answer: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        // After a panic the future is not polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| {
            let source = Arc::new(Panicked(words(&*panic)));
            Poll::Ready(Err(StorageError::Backend { action: call.to_owned(), source }))
        })
    })
    .await
}

/// What a panic says.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".into())
}

#[async_trait]
impl Storage for Contained {
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        contain("storing content", self.0.append(batch)).await
    }

    async fn load(&self, id: CoValueId) -> Result<Option<Stored>, StorageError> {
        contain("looking up a CoValue", self.0.load(id)).await
    }

    async fn load_many(&self, ids: Vec<CoValueId>) -> Vec<Result<Option<Stored>, StorageError>> {
        let together = async { Ok(self.0.load_many(ids.clone()).await) };
        match contain("looking up CoValues", together).await {
            Ok(answers) if answers.len() == ids.len() => return answers,
            _ => {}
        }
        // One by one, so that a panic over one of them is no failure of the others.
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
        contain("reading content", self.0.read(id, have, max_bytes)).await
    }

    async fn read_many(
        &self,
        have: Vec<KnownState>,
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let together = async { Ok(self.0.read_many(have, max_bytes).await) };
        // Without answers, each is read by itself.
        contain("reading content", together).await.unwrap_or_default()
    }

    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        contain("listing CoValues", self.0.list(after, limit)).await
    }

    async fn count(&self) -> Result<u64, StorageError> {
        contain("counting CoValues", self.0.count()).await
    }

    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError> {
        contain("erasing what was deleted", self.0.erase(id)).await
    }

    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError> {
        contain("listing what is to be erased", self.0.erasable(after, limit)).await
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError> {
        contain("noting what upstreams lack", self.0.track_unsynced(updates)).await
    }

    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError> {
        contain("listing what upstreams lack", self.0.unsynced(after, limit)).await
    }

    async fn stats(&self) -> Result<Stats, StorageError> {
        contain("measuring", self.0.stats()).await
    }

    async fn check(&self) -> Result<(), StorageError> {
        contain("checking the store", self.0.check()).await
    }

    async fn close(&self) -> Result<(), StorageError> {
        contain("closing", self.0.close()).await
    }
}

//! The contract between the node and a storage backend.

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};

use crate::error::StorageError;
use crate::runs::ReadBudget;
use crate::types::{Erased, Outcome, StoreStats, StoredCoValue, Unsynced, UnsyncedUpdate, Write};

/// A store of CoValues: headers, session logs with their signatures, and the CoValues that an
/// upstream has not acknowledged yet.
///
/// The caller has verified all ids, hashes and signatures. A store does not check them again. Its
/// promises:
///
/// - **Concurrency.** Any task may call any method at any time. Appends take effect one after the
///   other, in an order that the store chooses. A task that waits for each append before the next
///   gets them in its own order.
/// - **Whole extensions.** Of each [`SessionContent`] that an append applied, a reader sees all or
///   nothing, and never without the extensions before it. While an append runs, a reader may see
///   some extensions of the batch and not others. After `append` has returned, all readers see all
///   of them. A reader may see data that is not durable yet.
/// - **Futures may be dropped.** Dropping the future of a write does not undo the write: it happens
///   as a whole or not at all.
/// - **No blocking.** A backend that waits for a disk does so on threads of its own.
/// - **No grouping.** Each `append` is one batch with one flush. A store does not merge the appends
///   of several tasks. Many tasks that write at the same time share a flush by a
///   [`Batcher`](crate::Batcher) in front of the store.
///
/// Any method may fail with [`StorageError::Io`], [`StorageError::Full`] or
/// [`StorageError::Backend`] when the disk or the engine fails. Methods that write fail with
/// [`StorageError::Gone`] while the store is not at its path. Every method fails with
/// [`StorageError::Closed`] after [`Self::close`]. Methods that read stored data fail with
/// [`StorageError::Corrupt`] where it is damaged; damaged data is never returned.
///
/// A backend does not panic on bad data or a failing disk. If its engine may panic, the backend
/// catches that where it calls the engine, and returns [`StorageError::Backend`].
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Stores a batch of log extensions and tombstones. Returns one outcome for each write, in the
    /// order of the batch.
    ///
    /// The writes of a batch take effect in order, each on top of those before it. A write that
    /// does not fit the store is left out, and its [`Outcome`] says why; the rest of the batch is
    /// applied. All applied writes are applied atomically: after a crash the store holds all of
    /// them or none. They are durable when this returns, unless the backend was opened with relaxed
    /// [`Durability`](crate::Durability).
    ///
    /// After an error the batch may have been applied as a whole, or not at all, and is not known
    /// to be durable. The caller asks [`Self::load`] for the stored counts before it goes on. Later
    /// appends may succeed again.
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError>;

    /// The stored header of a CoValue, and of each session the number of transactions and the last
    /// signature. `None` if the CoValue is not stored.
    ///
    /// A deleted CoValue shows only its delete sessions.
    async fn load(&self, id: CoValueId) -> Result<Option<StoredCoValue>, StorageError>;

    /// The answers of [`Self::load`] for all of these CoValues, in their order.
    ///
    /// A backend that reads on other threads should override this and hand over many CoValues at
    /// once: handing over takes longer than a look-up in memory.
    async fn load_many(
        &self,
        ids: Vec<CoValueId>,
    ) -> Vec<Result<Option<StoredCoValue>, StorageError>> {
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            answers.push(self.load(id).await);
        }
        answers
    }

    /// The transactions of a CoValue beyond the counts in `have`, session by session in the order
    /// of their ids, as runs that each end at a stored signature.
    ///
    /// Extensions are merged, so the runs do not depend on the size of the pieces in which the
    /// content arrived. A run ends at the next *checkpoint*, or at the end of the log. A log has a
    /// checkpoint at the end of the extension that brings the bytes since the previous checkpoint
    /// above [`CHUNK_LEN`](downbeat_protocol::CHUNK_LEN). `have` may point into the middle of an
    /// extension.
    ///
    /// Reading stops at the end of the extension with which `max_bytes` of transaction JSON have
    /// been read. So the answer exceeds `max_bytes` by less than one extension, and holds at least
    /// one extension if there is any. To read on, the caller raises `have` by the answer. An empty
    /// answer means that nothing is stored beyond `have`.
    ///
    /// Counts in `have` above the stored ones are allowed; such a session has nothing to read. A
    /// deleted CoValue shows only its delete sessions. A CoValue that is not stored gives an empty
    /// answer.
    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError>;

    /// The answers of [`Self::read`] beyond each of these known states, in their order.
    ///
    /// All answers share one budget: after the answer with which `max_bytes` have been read there
    /// are no more. So there may be fewer answers than known states, but at least one if there is
    /// any known state. Whether a known state has the header makes no difference.
    ///
    /// Should be overridden for the same reason as [`Self::load_many`].
    async fn read_many(
        &self,
        have: Vec<KnownState>,
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let mut budget = ReadBudget::new(max_bytes);
        let mut answers = Vec::with_capacity(have.len());
        for KnownState { id, sessions, .. } in have {
            let answer = self.read(id, &sessions, budget.left()).await;
            let may_go_on = budget.spend(&answer);
            answers.push(answer);
            if !may_go_on {
                break;
            }
        }
        answers
    }

    /// Like [`Self::read`], but extensions are not merged: each answered run is one extension as it
    /// was appended, or the rest of one. For copies that keep the extensions of a log.
    ///
    /// Should be overridden: this implementation reads once for each extension.
    async fn read_extensions(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        /// Each read stops at the end of the extension with which this has been read.
        const ONE_EXTENSION: usize = 1;

        let mut have = have.clone();
        let mut budget = ReadBudget::new(max_bytes);
        let mut extensions = Vec::new();
        loop {
            let answer = self.read(id, &have, ONE_EXTENSION).await;
            let may_go_on = budget.spend(&answer);
            let runs = answer?;
            if runs.is_empty() {
                return Ok(extensions);
            }
            for run in &runs {
                have.raise(&run.session, run.end());
            }
            extensions.extend(runs);
            if !may_go_on {
                return Ok(extensions);
            }
        }
    }

    /// The first `limit` ids of stored CoValues after `after`, in ascending order of their text.
    /// Includes deleted CoValues.
    ///
    /// Fewer than `limit` ids mean that there are no more. Pages are stable while others write: a
    /// walk from page to page gives every CoValue that was stored when it began exactly once. It
    /// may or may not give CoValues that were added since.
    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError>;

    /// The number of CoValues that [`Self::list`] gives. Does not walk through them.
    async fn count(&self) -> Result<u64, StorageError>;

    /// Removes a part of the content that a tombstone hides: everything except the header and the
    /// delete sessions. Does a bounded amount of work, and returns whether there is more to do.
    ///
    /// Does nothing to a CoValue that is not deleted or not stored. Readers do not notice, because
    /// the content has been hidden since the tombstone. Each call is atomic. It need not be
    /// durable: content that comes back after a crash is listed by [`Self::erasable`] again.
    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError>;

    /// The first `limit` ids after `after`, in ascending order, of CoValues that have a tombstone
    /// and hidden content that is not erased yet.
    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError>;

    /// Notes for CoValues whether an upstream has acknowledged all their content.
    ///
    /// The updates take effect in order and atomically, and are as durable as an [`Self::append`]
    /// when this returns. Each call is one batch. A CoValue need not be stored: a caller that notes
    /// it before it appends the content can lose no update.
    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError>;

    /// The first `limit` pairs of a CoValue and an upstream that has not acknowledged it, after
    /// `after`, in ascending order of the CoValue and then of the upstream's name. Pages are stable
    /// in the same way as those of [`Self::list`].
    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError>;

    /// The amount of stored data. Does not walk through it.
    async fn stats(&self) -> Result<StoreStats, StorageError>;

    /// Whether the store would take content now, as far as it knows without writing. A backend on a
    /// disk checks whether its files are still at their paths and whether there is free space. Must
    /// be cheap enough for a call each second.
    async fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Makes everything durable, and closes the store. Later calls fail with
    /// [`StorageError::Closed`]; running calls finish, or fail in the same way. Closing a second
    /// time does nothing.
    async fn close(&self) -> Result<(), StorageError>;
}

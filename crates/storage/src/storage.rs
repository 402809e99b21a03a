//! The contract between the node and whatever keeps its data.

use async_trait::async_trait;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts};

use crate::error::StorageError;
use crate::runs::ReadBudget;
use crate::types::{Erased, Outcome, Stats, Stored, Unsynced, UnsyncedUpdate, Write};

/// A store of CoValues: headers, session logs with the signatures under which they came, and
/// which of them an upstream has not acknowledged yet.
///
/// A store keeps what it is given and checks none of it: ids, hashes and signatures have been
/// verified by the caller. What it does promise:
///
/// - **All methods may be called at any time, from any task, as often as wanted.** Appends take
///   effect one after the other, in an order that the store chooses; appends of one task that
///   waits for each are in the order in which it called.
/// - **Reading sees only what was appended, in whole extensions**: of each [`SessionContent`]
///   that an append applied, a reader sees all or nothing, and never an extension without those
///   before it. A reader that runs at the same time as an append may see some of the batch's
///   extensions and not others; once `append` has returned, all readers see all of them. A reader
///   may see what is not durable yet.
/// - **Futures may be dropped.** Dropping the future of a write does not undo the write: it
///   happens as a whole or not at all.
/// - **No blocking.** A backend that waits for a disk does so on threads of its own.
///
/// Any method may fail with [`StorageError::Io`], [`StorageError::Full`] or
/// [`StorageError::Backend`] when the disk does. Methods that write fail with
/// [`StorageError::Gone`] while the store is not in its place. Every method fails with
/// [`StorageError::Closed`] after [`Self::close`]. Methods that read what was stored fail with
/// [`StorageError::Corrupt`] where it is not what was written; damaged data is never returned.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Stores a batch of log extensions and tombstones, and says what became of each, in the order
    /// of the batch.
    ///
    /// The writes of a batch take effect in order, each on top of those before it. What does not
    /// fit the store (see [`Outcome`]) is left out and reported by itself; it does not fail the
    /// batch. All that is applied is applied atomically: after a crash the store holds all of it
    /// or nothing. It is durable when this returns, unless the backend was told to be more relaxed.
    ///
    /// An error says that the batch is not known to be durable. It may still have been applied, as
    /// a whole; a caller that goes on asks [`Self::load`] what is there. Later appends may succeed
    /// again.
    async fn append(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError>;

    /// What is stored of a CoValue: its header, and of each session the number of transactions and
    /// the last signature. `None` if its header was never stored.
    ///
    /// Of a deleted CoValue only the delete sessions are told, from the tombstone on.
    async fn load(&self, id: CoValueId) -> Result<Option<Stored>, StorageError>;

    /// What [`Self::load`] tells of each of these CoValues: as many answers, in their order.
    ///
    /// A backend that hands its reading to other threads should override this and hand over many at
    /// a time, which costs more than the look-up where that finds all in memory.
    async fn load_many(&self, ids: Vec<CoValueId>) -> Vec<Result<Option<Stored>, StorageError>> {
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            answers.push(self.load(id).await);
        }
        answers
    }

    /// The transactions of a CoValue beyond the counts in `have`, session by session in the order
    /// of their ids, as runs that each end at a stored signature.
    ///
    /// Extensions are merged, so the runs do not depend on how small they came in: a run goes on
    /// to the next *checkpoint*, the end of the extension with which more than
    /// [`CHUNK_LEN`](downbeat_protocol::CHUNK_LEN) have gathered since the checkpoint before, or to
    /// the end of the log. `have` may point into the middle of an extension.
    ///
    /// Reading stops at the end of the first extension with which `max_bytes` of transaction JSON
    /// have been read, so the answer is larger than that by one extension at most, and holds at
    /// least one extension if there is any. To read on, the caller raises `have` by what it got;
    /// an empty answer says that there is nothing beyond `have`.
    ///
    /// Counts in `have` that are beyond the stored ones are no error: there is nothing to read. Of
    /// a deleted CoValue only the delete sessions are read, and of one that is not stored, nothing.
    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError>;

    /// What [`Self::read`] gives beyond each of these known states, in their order. All of it
    /// together has the budget that one reading has: after the answer with which `max_bytes` have
    /// been read there are no more, so there may be fewer answers than known states, but one at
    /// least if there is any known state.
    ///
    /// Whether the header is known makes no difference. To be overridden for the same reason as
    /// [`Self::load_many`].
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

    /// The first `limit` ids of stored CoValues that come after `after`, in ascending order of
    /// their text. Deleted CoValues are among them.
    ///
    /// Fewer than `limit` ids say that there are no more. Pages are stable while others write: a
    /// walk from page to page tells every CoValue that was there when it began, exactly once, and
    /// may or may not tell those that were added since.
    async fn list(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError>;

    /// The number of CoValues that [`Self::list`] goes through. Costs no walk.
    async fn count(&self) -> Result<u64, StorageError>;

    /// Removes a part of what a tombstone left behind: everything but the header and the delete
    /// sessions. Does a bounded amount of work per call, and says whether there is more to do.
    ///
    /// Does nothing to a CoValue that is not deleted or not stored. Readers do not notice: what is
    /// removed could not be read since the tombstone. Each call is atomic; what it removed may come
    /// back after a crash, and is then found by [`Self::erasable`] again.
    async fn erase(&self, id: CoValueId) -> Result<Erased, StorageError>;

    /// The first `limit` ids after `after`, in ascending order, of CoValues that have a tombstone
    /// and are not erased to the end.
    async fn erasable(
        &self,
        after: Option<CoValueId>,
        limit: usize,
    ) -> Result<Vec<CoValueId>, StorageError>;

    /// Notes of CoValues whether an upstream has acknowledged all that is stored of them.
    ///
    /// The updates take effect in order and atomically, and are durable when this returns, with
    /// the same freedom as [`Self::append`]. The CoValue need not be stored (yet): a caller that
    /// notes the CoValue before it appends can lose no update.
    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Result<(), StorageError>;

    /// The first `limit` pairs of a CoValue and an upstream that has not acknowledged it, after
    /// `after`, in ascending order of the CoValue and then of the upstream's name. Pages are stable
    /// in the way that [`Self::list`] says.
    async fn unsynced(
        &self,
        after: Option<Unsynced>,
        limit: usize,
    ) -> Result<Vec<Unsynced>, StorageError>;

    /// How much is stored. Costs no walk over the data.
    async fn stats(&self) -> Result<Stats, StorageError>;

    /// Whether the store would take content now, as far as it knows without writing: a backend on a
    /// disk looks whether its files are still in their places and whether there is room. Costs
    /// little, so that it can be asked every second.
    async fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Makes everything durable that is not yet, and closes the store: all calls that come later
    /// fail with [`StorageError::Closed`], and calls that are under way finish or fail in that
    /// way. Closing a second time does nothing.
    async fn close(&self) -> Result<(), StorageError>;
}

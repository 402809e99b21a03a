//! The writer: one thread that takes what waits, applies it, and flushes once for all of it.
//!
//! sled writes nothing more after the first error of the disk, but reads what lies on it. So after
//! an error the writer leaves the tree to the readers until the disk can be written again. Then it
//! drops the tree and opens it again: what was not flushed is gone from memory then, as it is from
//! the disk, and its writers have been told.
//!
//! A log that has lost its name can be written all the same, and nothing of that is ever found
//! again. So the writer looks for the name before each batch and again before it tells anybody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::CoValueId;
use downbeat_storage::files::{Place, Reserve};
use downbeat_storage::{Damage, Erased, Outcome, StorageError, UnsyncedUpdate, Write};
use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use crate::draft::{Caution, Draft, Remembered};
use crate::erase::erase;
use crate::mark::Mark;
use crate::options::{Durability, SledOptions};
use crate::place::{self, Opened};
use crate::queue::{Next, Queue, Queued, UNIT};
use crate::room;
use crate::shared::Shared;
use crate::tree::Tree;

/// How long to wait before a tree that could not be opened again is tried once more. Long enough
/// to be no load, and short enough that nobody waits for a server after making room on a disk.
const REOPEN_INTERVAL: Duration = Duration::from_millis(250);

/// A change to the store, and who waits for it. Nobody may be waiting any longer; the change is
/// made all the same.
#[derive(Debug)]
pub(crate) enum Job {
    Append(Vec<Write>, Reply<Vec<Outcome>>),
    Track(Vec<UnsyncedUpdate>, Reply<()>),
    Erase(CoValueId, Reply<Erased>),
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// What the writer thread owns.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<Queue<Job>>,
    shared: Arc<Shared>,
    options: SledOptions,
    place: Place,
    reserve: Reserve,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Box<Open>),
    /// The tree could not be opened again. Not to be tried before this time.
    Failed(StorageError, Instant),
}

#[derive(Debug)]
struct Open {
    tree: Tree,
    mark: Mark,
    remembered: Remembered,
    /// When what was applied without a flush must be flushed.
    flush_by: Option<Instant>,
}

/// What a job has to do.
enum Work {
    Append(Vec<Write>),
    Track(Vec<UnsyncedUpdate>),
    Erase(CoValueId),
}

/// Who waits for a job, and what to answer if all goes well.
enum Waiting {
    Append(Reply<Vec<Outcome>>, Vec<Outcome>),
    Track(Reply<()>),
    Erase(Reply<Erased>, Result<Erased, Damage>),
}

impl Writer {
    pub(crate) fn new(
        opened: Opened,
        reserve: Reserve,
        queue: Arc<Queue<Job>>,
        shared: Arc<Shared>,
        options: SledOptions,
    ) -> Self {
        let place = opened.tree.place().clone();
        let state = State::Open(Box::new(Open::new(opened)));
        Self { queue, shared, options, place, reserve, state }
    }

    /// Works until the queue is closed and empty, and then makes everything durable.
    pub(crate) fn run(mut self) -> Result<(), StorageError> {
        loop {
            let deadline = match &self.state {
                State::Open(open) => {
                    room::keep_reserve(&mut self.reserve, self.shared.dir());
                    earliest(open.flush_by, self.reserve.retry_at())
                }
                State::Failed(_, retry_at) => Some(*retry_at),
            };
            match self.queue.next(deadline, |job| matches!(job, Job::Erase(..))) {
                Next::Group(jobs) => self.perform(jobs),
                Next::TimeUp => {}
                Next::Closed => {
                    return match &mut self.state {
                        State::Open(open) => {
                            unwound("write to", self.shared.dir(), || open.flush())
                        }
                        State::Failed(error, _) => Err(error.clone()),
                    };
                }
            }
            self.catch_up();
        }
    }

    /// Does a group of jobs and answers them.
    fn perform(&mut self, jobs: Vec<Queued<Job>>) {
        self.reopen_if_failed();
        let mut works = Vec::with_capacity(jobs.len());
        let mut waiting = Vec::with_capacity(jobs.len());
        // The jobs keep their room in the queue until they are done.
        let mut rooms = Vec::with_capacity(jobs.len());
        let units: usize = jobs.iter().map(|queued| queued.room.num_permits()).sum();
        for Queued { job, room } in jobs {
            let (work, who) = job.split();
            works.push(work);
            waiting.push(who);
            rooms.push(room);
        }
        let mut result =
            self.may_write(units).and_then(|()| self.try_to(&works, &mut waiting, Caution::Usual));
        if let Err(StorageError::Corrupt(damage)) = &result {
            warn!(%damage, "a batch ran into damage; leaving out what belongs near it");
            result = self.try_to(&works, &mut waiting, Caution::High);
        }
        // What went into a log without a name is not stored.
        result = result.and_then(|()| self.place.check());
        for who in waiting {
            who.answer(&result);
        }
    }

    /// Whether a group of this size in the queue may be written. `Ok` for a tree that has failed,
    /// which has an error of its own.
    fn may_write(&self, units: usize) -> Result<(), StorageError> {
        if matches!(self.state, State::Failed(..)) {
            return Ok(());
        }
        self.place.check()?;
        room::require_for_batch(self.shared.dir(), (units * UNIT) as u64)
    }

    /// Does the works. After an error the tree is opened again, and nothing of them is done.
    fn try_to(
        &mut self,
        works: &[Work],
        waiting: &mut [Waiting],
        caution: Caution,
    ) -> Result<(), StorageError> {
        let durability = self.options.durability;
        let open = match &mut self.state {
            State::Open(open) => open,
            State::Failed(error, _) => return Err(error.clone()),
        };
        let result = unwound("write to", self.shared.dir(), || {
            open.work(works, waiting, durability, caution)
        });
        if let Err(error) = &result {
            self.fail(error.clone());
        }
        result
    }

    /// Does what has become due: a flush, or another try at opening the tree.
    fn catch_up(&mut self) {
        self.reopen_if_failed();
        if let State::Open(open) = &mut self.state
            && open.flush_by.is_some_and(|due| due <= Instant::now())
            && let Err(error) = unwound("write to", self.shared.dir(), || open.flush())
        {
            error!(%error, "what was acknowledged before it was durable is lost");
            self.fail(error);
        }
    }

    /// Leaves a tree that failed to the readers, and tries to open it again.
    fn fail(&mut self, error: StorageError) {
        self.shared.set_unwritable(error.clone());
        self.state = State::Failed(error, Instant::now());
        self.reopen_if_failed();
    }

    fn reopen_if_failed(&mut self) {
        match self.state {
            State::Failed(_, retry_at) if retry_at <= Instant::now() => {}
            _ => return,
        }
        match self.reopen() {
            Ok(opened) => {
                debug!(store = %self.shared.dir().display(), "opened the store again");
                self.place = opened.tree.place().clone();
                self.shared.set_open(opened.tree.clone());
                self.state = State::Open(Box::new(Open::new(opened)));
            }
            Err(error) => {
                debug!(%error, "cannot open the store again yet");
                self.shared.set_unwritable(error.clone());
                self.state = State::Failed(error, Instant::now() + REOPEN_INTERVAL);
            }
        }
    }

    /// Opens the tree again if that has a chance. The readers lose the old tree first, because sled
    /// locks the log.
    fn reopen(&mut self) -> Result<Opened, StorageError> {
        let shared = Arc::clone(&self.shared);
        let dir = shared.dir();
        self.place.check()?;
        if let Err(error) = room::require_for_opening(dir) {
            // sled has met a full disk all the same, while it cleaned up, say.
            let is_full = matches!(error, StorageError::Full { .. });
            if !(is_full && self.reserve.give_up()) {
                return Err(error);
            }
            room::require_for_opening(dir)?;
        }
        self.shared.set_failed(StorageError::Backend {
            action: format!("cannot read from {}", dir.display()),
            source: Arc::new(OpenedAgain),
        });
        let opened = unwound("open", dir, || place::open(dir, &self.options));
        if let Err(error) = &opened {
            self.shared.set_failed(error.clone());
        }
        opened
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Why nothing can be read for a moment.
#[derive(Debug, thiserror::Error)]
#[error("it is being opened again after an error")]
struct OpenedAgain;

impl Open {
    fn new(opened: Opened) -> Self {
        let Opened { tree, mark, totals } = opened;
        Self { tree, mark, remembered: Remembered::new(totals), flush_by: None }
    }

    fn work(
        &mut self,
        works: &[Work],
        waiting: &mut [Waiting],
        durability: Durability,
        caution: Caution,
    ) -> Result<(), StorageError> {
        let mut draft = Draft::new(&self.tree, &mut self.remembered, caution);
        for (work, who) in works.iter().zip(waiting) {
            match (work, who) {
                (Work::Append(writes), Waiting::Append(_, outcomes)) => {
                    outcomes.clear();
                    for write in writes {
                        outcomes.push(draft.write(write)?);
                    }
                }
                (Work::Track(updates), _) => updates.iter().for_each(|update| draft.track(update)),
                // Comes alone, so there is nothing in the draft, and nothing to wait for: what a
                // crash brings back is erased again.
                (Work::Erase(id), Waiting::Erase(_, erased)) => {
                    *erased = erase(&self.tree, &mut self.remembered, *id)?;
                    return Ok(());
                }
                (Work::Append(_) | Work::Erase(_), _) => {}
            }
        }
        draft.apply()?;
        match durability {
            Durability::Flushed => self.flush(),
            Durability::Relaxed { within } => {
                self.flush_by.get_or_insert_with(|| Instant::now() + within);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.tree.flush()?;
        self.flush_by = None;
        if let Err(error) = self.mark.write(self.remembered.totals.batches) {
            // Everything is durable, and losing it would be noticed up to the mark before.
            warn!(%error, "cannot note how far the store has got");
        }
        Ok(())
    }
}

impl Job {
    fn split(self) -> (Work, Waiting) {
        match self {
            Self::Append(writes, reply) => {
                let outcomes = Vec::with_capacity(writes.len());
                (Work::Append(writes), Waiting::Append(reply, outcomes))
            }
            Self::Track(updates, reply) => (Work::Track(updates), Waiting::Track(reply)),
            Self::Erase(id, reply) => {
                (Work::Erase(id), Waiting::Erase(reply, Ok(Erased::default())))
            }
        }
    }
}

impl Waiting {
    /// Answers. Nobody may be listening any longer, which is fine.
    fn answer(self, result: &Result<(), StorageError>) {
        let result = result.clone();
        match self {
            Self::Append(reply, outcomes) => drop(reply.send(result.map(|()| outcomes))),
            Self::Track(reply) => drop(reply.send(result)),
            Self::Erase(reply, erased) => {
                drop(reply.send(result.and_then(|()| Ok(erased?))));
            }
        }
    }
}

/// Turns a panic into an error that names what was tried: sled panics on some kinds of damaged
/// files.
pub(crate) fn unwound<T>(
    verb: &str,
    dir: &Path,
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let action = format!("cannot {verb} {}, which is probably damaged", dir.display());
        Err(StorageError::Backend { action, source: Arc::new(Panicked(message.to_owned())) })
    })
}

/// The message of a panic.
#[derive(Debug, thiserror::Error)]
#[error("sled broke off: {0}")]
struct Panicked(String);

#[cfg(test)]
mod tests {
    use std::thread;

    use downbeat_storage::conformance::{Author, CoValueFixture};

    use super::*;
    use crate::read;

    fn writer(dir: &Path) -> Writer {
        let options = SledOptions::default();
        let opened = place::open(dir, &options).unwrap();
        let shared = Arc::new(Shared::new(opened.tree.clone()));
        Writer::new(opened, room::reserve(dir), Arc::new(Queue::new()), shared, options)
    }

    fn write(writer: &mut Writer, write: Write) -> Result<Vec<Outcome>, StorageError> {
        let State::Open(open) = &mut writer.state else { panic!("the tree is open") };
        let (reply, _answer) = oneshot::channel();
        let mut waiting = [Waiting::Append(reply, Vec::new())];
        let works = [Work::Append(vec![write])];
        open.work(&works, &mut waiting, Durability::Flushed, Caution::Usual)?;
        let [Waiting::Append(_, outcomes)] = waiting else { panic!("it is an append") };
        Ok(outcomes)
    }

    fn disk_error() -> StorageError {
        StorageError::io("cannot write", std::io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn after_an_error_the_tree_is_opened_again_and_logs_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        write(&mut writer, co_value.create(vec![author.write(1, 20)])).unwrap();

        // A reader that is slow to let go does not prevent it.
        let reader = writer.shared.tree().unwrap();
        let slow = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(reader);
        });
        writer.fail(disk_error());
        slow.join().unwrap();
        let tree = writer.shared.tree().unwrap();
        assert_eq!(read::load(&tree, co_value.id).unwrap().unwrap().sessions[0].count, 1);
        let outcomes = write(&mut writer, co_value.extend(vec![author.write(1, 20)])).unwrap();
        assert!(outcomes[0].is_complete());
        let State::Open(open) = &writer.state else { panic!("the tree is open") };
        assert_eq!(open.remembered.totals.transactions, 2);
    }

    #[test]
    fn a_tree_that_failed_is_read_until_the_disk_can_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        write(&mut writer, co_value.create(vec![author.write(1, 20)])).unwrap();
        // Nothing can be written into a directory, as on a disk without room.
        let in_the_way = dir.path().join("room.tmp");
        std::fs::create_dir(&in_the_way).unwrap();
        writer.fail(disk_error());
        let load = |writer: &Writer| writer.shared.read(|tree| read::load(tree, co_value.id));
        assert_eq!(load(&writer).unwrap().unwrap().sessions[0].count, 1);
        assert!(writer.shared.check().is_err());

        std::fs::remove_dir(&in_the_way).unwrap();
        thread::sleep(REOPEN_INTERVAL);
        writer.catch_up();
        writer.shared.check().unwrap();
        assert_eq!(load(&writer).unwrap().unwrap().sessions[0].count, 1);
        write(&mut writer, co_value.extend(vec![author.write(1, 20)])).unwrap();
    }

    #[test]
    fn a_tree_that_cannot_be_opened_again_is_tried_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let format = dir.path().join("format");
        std::fs::write(&format, "something else").unwrap();
        writer.fail(disk_error());
        assert!(matches!(writer.state, State::Failed(StorageError::NotAStore { .. }, _)));
        assert!(matches!(writer.shared.tree(), Err(StorageError::NotAStore { .. })));

        std::fs::write(&format, "downbeat-storage-sled 1\n").unwrap();
        writer.reopen_if_failed();
        assert!(writer.shared.tree().is_err(), "it is not tried all the time");
        thread::sleep(REOPEN_INTERVAL);
        writer.catch_up();
        writer.shared.tree().unwrap();
        assert!(matches!(writer.state, State::Open(_)));
    }

    #[test]
    fn a_panic_becomes_an_error_that_names_the_store() {
        let error = unwound::<()>("open", Path::new("data"), || panic!("at {}", 7)).unwrap_err();
        assert!(error.to_string().contains("cannot open data"), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("at 7"), "{source}");
    }
}

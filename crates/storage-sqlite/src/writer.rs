//! The writer: one thread that takes what waits, makes one transaction of it, and so flushes once
//! for all of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use downbeat_protocol::CoValueId;
use downbeat_storage::files::Reserve;
use downbeat_storage::{Damage, Erased, Outcome, StorageError, UnsyncedUpdate, Write};
use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::{error, warn};

use crate::check::Damaged;
use crate::connection::Places;
use crate::draft::{Caution, Draft, Remembered};
use crate::fault::Fault;
use crate::options::Durability;
use crate::queue::{Inbox, Next, Queued};
use crate::totals::Totals;

/// How long to wait after a flush that failed.
const FLUSH_AGAIN: Duration = Duration::from_millis(250);

/// The room that opening a file takes at most: the shared memory of its log.
const RESERVE_BYTES: u64 = 1 << 20;

/// A change to the file, what came of it, and who waits for it. Nobody may be waiting any longer;
/// the change is made all the same.
#[derive(Debug)]
pub(crate) enum Job {
    Append {
        writes: Vec<Write>,
        outcomes: Vec<Outcome>,
        reply: Reply<Vec<Outcome>>,
    },
    Track {
        updates: Vec<UnsyncedUpdate>,
        reply: Reply<()>,
    },
    Erase {
        id: CoValueId,
        erased: Result<Erased, Damage>,
        reply: Reply<Erased>,
    },
    /// What an audit found, to be added to the totals.
    Correct {
        by: Totals,
        reply: Reply<()>,
    },
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// A file that has just been opened.
pub(crate) struct Opened {
    pub(crate) file: PathBuf,
    pub(crate) connection: Connection,
    pub(crate) places: Places,
    pub(crate) reserve: Reserve,
}

/// What the writer thread owns.
#[derive(Debug)]
pub(crate) struct Writer {
    file: PathBuf,
    connection: Connection,
    places: Places,
    reserve: Reserve,
    inbox: Inbox<Job>,
    durability: Durability,
    remembered: Remembered,
    /// Changes when another process has written.
    version: i64,
    /// Whether the totals can be believed.
    audited: Arc<AtomicBool>,
    /// What must not be written to.
    damaged: Arc<Damaged>,
    /// When what was written without a flush must be flushed.
    flush_by: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(
        opened: Opened,
        inbox: Inbox<Job>,
        durability: Durability,
        (audited, damaged): (Arc<AtomicBool>, Arc<Damaged>),
    ) -> Result<Self, Fault> {
        let Opened { file, connection, places, reserve } = opened;
        let version = data_version(&connection)?;
        let remembered = Remembered::default();
        Ok(Self {
            file,
            connection,
            places,
            reserve,
            inbox,
            durability,
            remembered,
            version,
            audited,
            damaged,
            flush_by: None,
        })
    }

    /// Works until the queue is closed and empty, and then brings everything into the file.
    pub(crate) fn run(mut self) -> Result<(), StorageError> {
        loop {
            self.reserve.keep(RESERVE_BYTES, RESERVE_BYTES);
            let deadline = [self.flush_by, self.reserve.retry_at()].into_iter().flatten().min();
            match self.inbox.next(deadline) {
                Next::Group(jobs) => self.perform(jobs),
                Next::TimeUp => {}
                Next::Closed => return self.close(),
            }
            if self.flush_by.is_some_and(|due| due <= Instant::now()) {
                self.flush();
            }
        }
    }

    /// Does a group of jobs and answers them.
    fn perform(&mut self, jobs: Vec<Queued<Job>>) {
        // The jobs keep their room in the queue until they are done.
        let (mut jobs, rooms): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|Queued { job, room }| (job, room)).unzip();
        let mut result = self.places.check().and_then(|()| self.attempt(&mut jobs, Caution::Usual));
        if let Err(StorageError::Corrupt(damage)) = &result {
            warn!(%damage, "a batch ran into damage; leaving out what belongs to it");
            result = self.attempt(&mut jobs, Caution::High);
        }
        // What went into files without names is not stored.
        result = result.and_then(|()| self.places.check());
        for job in jobs {
            job.answer(&result);
        }
        drop(rooms);
    }

    /// Does the jobs in one transaction. After an error, nothing of them is done.
    fn attempt(&mut self, jobs: &mut [Job], caution: Caution) -> Result<(), StorageError> {
        let result = self.transact(jobs, caution).map_err(|fault| self.explain(fault));
        if result.is_err() {
            self.remembered.forget();
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                error!(%error, "a transaction could not be taken back");
            }
        } else if let Durability::Relaxed { within } = self.durability {
            self.flush_by.get_or_insert_with(|| Instant::now() + within);
        }
        result
    }

    fn transact(&mut self, jobs: &mut [Job], caution: Caution) -> Result<(), Fault> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let version = data_version(&self.connection)?;
        if version != self.version {
            self.version = version;
            self.remembered.forget();
            self.audited.store(false, Ordering::Release);
        }
        let mut draft = Draft {
            connection: &self.connection,
            remembered: &mut self.remembered,
            damaged: &self.damaged,
            totals: Totals::default(),
        };
        for job in jobs {
            job.perform(&mut draft, caution)?;
        }
        if draft.totals != Totals::default() {
            draft.totals.write(&self.connection)?;
        }
        self.connection.execute_batch("COMMIT")?;
        Ok(())
    }

    /// Makes durable what was written before: a flush of the log beside the file covers all of it,
    /// and comes with every commit that waits for the disk.
    fn flush(&mut self) {
        let flush = || {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            let commit = Totals::default().write(&self.connection);
            self.connection.pragma_update(None, "synchronous", "NORMAL")?;
            commit
        };
        match flush() {
            Ok(()) => self.flush_by = None,
            Err(fault) => {
                let error = self.explain(fault);
                error!(%error, "what was acknowledged is not durable yet; trying again");
                self.flush_by = Some(Instant::now() + FLUSH_AGAIN);
            }
        }
    }

    /// Brings what is in the log beside the file into the file. Others that have the file open may
    /// prevent that, which does no harm.
    fn close(self) -> Result<(), StorageError> {
        let checkpoint =
            self.connection.pragma_update(None, "synchronous", "FULL").and_then(|()| {
                self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            });
        checkpoint.map_err(|error| self.explain(error.into()))?;
        let Self { file, connection, .. } = self;
        connection.close().map_err(|(_, error)| Fault::from(error).into_error("close", &file))
    }

    fn explain(&self, fault: Fault) -> StorageError {
        fault.into_error("write to", &self.file)
    }
}

impl Job {
    fn perform(&mut self, draft: &mut Draft<'_>, caution: Caution) -> Result<(), Fault> {
        match self {
            Self::Append { writes, outcomes, .. } => {
                outcomes.clear();
                for write in writes {
                    outcomes.push(draft.write(write, caution)?);
                }
            }
            Self::Track { updates, .. } => {
                for update in updates {
                    draft.track(update)?;
                }
            }
            Self::Erase { id, erased, .. } => *erased = draft.erase(*id, caution)?,
            Self::Correct { by, .. } => draft.totals += *by,
        }
        Ok(())
    }

    /// Answers. Nobody may be listening any longer, which is fine.
    fn answer(self, result: &Result<(), StorageError>) {
        let result = result.clone();
        match self {
            Self::Append { outcomes, reply, .. } => drop(reply.send(result.map(|()| outcomes))),
            Self::Track { reply, .. } | Self::Correct { reply, .. } => drop(reply.send(result)),
            Self::Erase { erased, reply, .. } => {
                drop(reply.send(result.and_then(|()| Ok(erased?))));
            }
        }
    }
}

fn data_version(connection: &Connection) -> Result<i64, Fault> {
    let mut query = connection.prepare_cached("PRAGMA data_version")?;
    Ok(query.query_row([], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use downbeat_storage::conformance::{Author, CoValueFixture};

    use super::*;
    use crate::connection::open_writer;
    use crate::options::SqliteOptions;
    use crate::queue::queue;
    use crate::read;

    fn writer(dir: &Path) -> Writer {
        let file = dir.join("storage.db");
        let connection = open_writer(&file, &SqliteOptions::default()).unwrap();
        let (_queue, inbox) = queue();
        let places = Places::of(&file).unwrap();
        let reserve = Reserve::new(dir.join("reserve"));
        let opened = Opened { file, connection, places, reserve };
        Writer::new(opened, inbox, Durability::Flushed, Default::default()).unwrap()
    }

    fn append(writer: &mut Writer, batch: Vec<Write>) -> Result<Vec<Outcome>, StorageError> {
        let (reply, _answer) = oneshot::channel();
        let mut jobs = [Job::Append { writes: batch, outcomes: Vec::new(), reply }];
        writer.attempt(&mut jobs, Caution::Usual)?;
        let [Job::Append { outcomes, .. }] = jobs else { panic!("it is an append") };
        Ok(outcomes)
    }

    fn count(writer: &Writer, co_value: &CoValueFixture) -> u64 {
        let stored = read::load(&writer.connection, co_value.id).unwrap().unwrap();
        stored.sessions.iter().map(|session| session.count).sum()
    }

    #[test]
    fn a_full_disk_fails_a_batch_as_a_whole_and_there_may_be_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        append(&mut writer, vec![co_value.create(vec![author.write(1, 20)])]).unwrap();
        let pages: i64 =
            writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let limit = |writer: &Writer, pages: i64| {
            let set = |_: &rusqlite::Row<'_>| Ok(());
            writer.connection.pragma_update_and_check(None, "max_page_count", pages, set).unwrap();
        };
        limit(&writer, pages + 10);
        let before = author.clone();
        let batch = |author: &mut Author| {
            vec![
                co_value.extend(vec![author.write(1, 20)]),
                co_value.extend(vec![author.write(1, 200_000)]),
            ]
        };
        for _ in 0..3 {
            let error = append(&mut writer, batch(&mut before.clone())).unwrap_err();
            assert!(matches!(error, StorageError::Full { .. }), "{error:?}");
            assert_eq!(count(&writer, &co_value), 1, "nothing of the batch is stored");
        }
        append(&mut writer, vec![co_value.extend(vec![author.write(1, 20)])]).unwrap();
        limit(&writer, i64::from(i32::MAX));
        let outcomes = append(&mut writer, batch(&mut author)).unwrap();
        assert!(outcomes.iter().all(Outcome::is_complete));
        assert_eq!(count(&writer, &co_value), 4);
    }

    #[test]
    fn a_lock_that_another_process_holds_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        writer.connection.busy_timeout(Duration::from_millis(1)).unwrap();
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        append(&mut writer, vec![co_value.create(vec![author.write(1, 20)])]).unwrap();
        let other = Connection::open(dir.path().join("storage.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let late = vec![co_value.extend(vec![author.write(1, 20)])];
        let error = append(&mut writer, late.clone()).unwrap_err();
        assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
        other.execute_batch("ROLLBACK").unwrap();
        append(&mut writer, late).unwrap();
        assert_eq!(count(&writer, &co_value), 2);
    }
}

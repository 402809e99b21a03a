//! Threads that read, each on a connection of its own.
//!
//! A look-up that finds its pages in memory takes less than waking a thread does. So look-ups are
//! handed over many at a time, and a thread that is awake takes what waits, one job after the
//! other. Another is woken when much waits, or when the reads turn out to be from the disk. It is
//! the first one that sleeps: each connection has a cache of its own, and so the first ones have
//! in memory what is read often, and the others take no memory for it until they are needed.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use downbeat_storage::StorageError;
use tokio::sync::{Semaphore, oneshot};

use crate::connection::{MAX_READS, Reader, Source};

/// Jobs that may wait; whoever comes beyond that waits for its turn without being in the queue.
const MAX_WAITING: usize = 1_024;

/// CoValues that wait for each thread that is awake before one more is woken: about a millisecond's
/// worth, against which waking a thread costs little.
const BACKLOG: usize = 64;

/// A job that took longer has probably read from the disk, and so will those behind it: several
/// times what a full job takes that finds all in memory.
const SLOW: Duration = Duration::from_millis(2);

/// How much a job reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// So many CoValues, or something that takes about as long.
    CoValues(usize),
    /// The whole file. No other job waits behind it while a thread sleeps.
    File,
}

/// The threads, and what waits for them.
pub(crate) struct Readers {
    pool: Arc<Pool>,
    turns: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Pool {
    queue: Mutex<Queue>,
    /// A bell for each thread.
    bells: [Condvar; MAX_READS],
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// CoValues that the jobs read.
    waiting: usize,
    /// Which threads sleep and have not been called.
    asleep: [bool; MAX_READS],
    /// Threads that go through the whole file.
    away: usize,
    closed: bool,
}

struct Job {
    extent: Extent,
    work: Box<dyn FnOnce(&mut Reader) + Send>,
}

impl Readers {
    pub(crate) fn start(source: &Arc<Source>) -> Result<Self, StorageError> {
        let turns = Arc::new(Semaphore::new(MAX_WAITING));
        let readers = Self { pool: Arc::default(), turns, threads: Mutex::default() };
        for number in 0..MAX_READS {
            let pool = Arc::clone(&readers.pool);
            let mut reader = Reader::new(Arc::clone(source));
            let thread = thread::Builder::new().name("downbeat-read".to_owned());
            let thread = thread
                .spawn(move || pool.run(number, &mut reader))
                .map_err(|error| StorageError::io("cannot start a thread for reading", error))?;
            readers.threads().push(thread);
        }
        Ok(readers)
    }

    /// Runs a job on one of the threads. A panic in it is one of the caller's.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        extent: Extent,
        job: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| StorageError::Closed)?;
        let (reply, answer) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let work = Box::new(move |reader: &mut Reader| {
            // Whoever asked may have given up.
            if !reply.is_closed() {
                let result = catch_unwind(AssertUnwindSafe(|| job(reader)));
                if result.is_err() {
                    reader.discard();
                }
                let _ = reply.send(result);
            }
            drop(turn);
        });
        self.pool.add(Job { extent, work });
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(StorageError::Closed),
        }
    }

    /// Finishes what waits, ends the threads and closes their connections. Later reads fail.
    pub(crate) fn close(&self) {
        self.turns.close();
        self.pool.lock().closed = true;
        for bell in &self.pool.bells {
            bell.notify_one();
        }
        for thread in std::mem::take(&mut *self.threads()) {
            // Jobs catch their panics, so there is nothing to tell.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Pool {
    fn add(&self, job: Job) {
        let mut queue = self.lock();
        queue.waiting += job.extent.co_values();
        queue.jobs.push_back(job);
        let much = queue.waiting > queue.awake() * BACKLOG;
        self.unlock(queue, much);
    }

    /// Works until it is closed and nothing waits.
    fn run(&self, number: usize, reader: &mut Reader) {
        let mut slow = false;
        while let Some(Job { extent, work }) = self.next(number, slow) {
            let began = Instant::now();
            work(reader);
            reader.end_snapshot();
            slow = began.elapsed() > SLOW;
            if extent == Extent::File {
                self.lock().away -= 1;
            }
        }
    }

    /// Waits for a job.
    fn next(&self, number: usize, slow: bool) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                queue.waiting -= job.extent.co_values();
                queue.away += usize::from(job.extent == Extent::File);
                let behind = !queue.jobs.is_empty() && (slow || queue.awake() == 0);
                self.unlock(queue, behind);
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue.asleep[number] = true;
            while queue.asleep[number] && !queue.closed {
                queue = self.bells[number].wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.asleep[number] = false;
        }
    }

    /// Leaves the queue, and then wakes a thread if one is to be called and there is one that
    /// sleeps; before, it would run into the lock.
    fn unlock(&self, mut queue: MutexGuard<'_, Queue>, call: bool) {
        let sleeper = queue.asleep.iter().position(|asleep| call && *asleep);
        if let Some(number) = sleeper {
            queue.asleep[number] = false;
            drop(queue);
            self.bells[number].notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No statement under the lock panics halfway.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Threads that will come to what waits.
    fn awake(&self) -> usize {
        let asleep = self.asleep.iter().filter(|asleep| **asleep).count();
        MAX_READS.saturating_sub(asleep + self.away)
    }
}

impl Extent {
    /// What it counts for in the queue.
    fn co_values(self) -> usize {
        match self {
            Self::CoValues(count) => count.clamp(1, BACKLOG),
            Self::File => BACKLOG,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tempfile::TempDir;

    use super::*;
    use crate::connection::open_writer;
    use crate::options::SqliteOptions;

    const ONE: Extent = Extent::CoValues(1);

    fn readers() -> (TempDir, Arc<Readers>) {
        let dir = tempfile::tempdir().unwrap();
        let (file, options) = (dir.path().join("storage.db"), SqliteOptions::default());
        drop(open_writer(&file, &options).unwrap());
        (dir, Arc::new(Readers::start(&Arc::new(Source { file, options })).unwrap()))
    }

    #[tokio::test]
    async fn nothing_waits_behind_a_job_that_goes_through_the_whole_file() {
        let (_dir, readers) = readers();
        let mut long = Vec::new();
        for _ in 1..MAX_READS {
            let (finish, finished) = mpsc::channel::<()>();
            let readers = Arc::clone(&readers);
            long.push((
                finish,
                tokio::spawn(async move {
                    readers.run(Extent::File, move |_| finished.recv().is_err()).await
                }),
            ));
            tokio::task::yield_now().await;
        }
        for job in 0..100 {
            assert_eq!(readers.run(ONE, move |_| job).await.unwrap(), job);
        }
        for (finish, long) in long {
            drop(finish);
            assert!(long.await.unwrap().unwrap());
        }
    }

    #[tokio::test]
    async fn a_panic_is_the_callers_and_others_are_served() {
        let (_dir, readers) = readers();
        for _ in 0..2 * MAX_READS {
            let panicking = Arc::clone(&readers);
            let panicking =
                tokio::spawn(async move { panicking.run(ONE, |_| panic!("on purpose")).await });
            assert!(panicking.await.unwrap_err().is_panic());
            let one = readers.run(ONE, |reader| {
                reader.read(|file| Ok(file.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?))
            });
            assert_eq!(one.await.unwrap().unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn closing_finishes_what_waits_and_takes_no_more() {
        let (_dir, readers) = readers();
        let mut waiting = Vec::new();
        for job in 0..100 {
            let readers = Arc::clone(&readers);
            waiting.push(tokio::spawn(async move { readers.run(ONE, move |_| job).await }));
            tokio::task::yield_now().await;
        }
        readers.close();
        for (job, waiting) in waiting.into_iter().enumerate() {
            assert_eq!(waiting.await.unwrap().unwrap(), job);
        }
        assert!(matches!(readers.run(ONE, |_| ()).await, Err(StorageError::Closed)));
    }
}

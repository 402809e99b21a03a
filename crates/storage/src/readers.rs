//! Threads that read, for backends whose reading blocks.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use crate::error::StorageError;

/// Jobs that may wait; whoever comes beyond that waits for its turn without being in the queue.
const MAX_WAITING: usize = 1_024;

/// CoValues that wait for each thread that is awake before one more is woken: about a millisecond's
/// worth if they are in memory, against which waking a thread costs little.
const BACKLOG: usize = 64;

/// A job that takes longer probably reads from the disk, and so will those behind it: several times
/// what a full job takes that finds all in memory.
const SLOW: Duration = Duration::from_millis(1);

/// Threads that read, each with something of its own to read from: `S`, a connection, say.
///
/// Reading what is in memory takes microseconds, less than waking a thread does. So a thread that
/// is awake takes what waits, one job after the other, and another is woken only when much waits,
/// or when jobs turn out to take long, as they do when they wait for the disk. It is the first that
/// sleeps, so where each source has a cache, the first ones have what is read often, and the others
/// take no memory for it until they are needed.
///
/// Backends should hand over many look-ups with one job.
///
/// Needs no particular runtime. Dropping this closes it as [`Self::close`] does.
pub struct Readers<S> {
    pool: Arc<Pool<S>>,
    turns: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How much a job reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// So many CoValues, or something that takes about as long.
    CoValues(usize),
    /// All that is stored, however long that takes.
    Everything,
}

/// What the threads share.
struct Pool<S> {
    queue: Mutex<Queue<S>>,
    /// A bell for each thread.
    bells: Box<[Condvar]>,
}

struct Queue<S> {
    jobs: VecDeque<Job<S>>,
    /// CoValues that the jobs read.
    waiting: usize,
    /// For each thread whether it sleeps and has not been called.
    asleep: Box<[bool]>,
    /// For each thread that is at a job the time by which it is expected back.
    back_by: Box<[Option<Instant>]>,
    closed: bool,
}

struct Job<S> {
    extent: Extent,
    work: Work<S>,
}

/// Takes the source away if it panics.
type Work<S> = Box<dyn FnOnce(&mut Option<S>) + Send>;

impl<S: 'static> Readers<S> {
    /// Starts so many threads. Each calls `source` before its first job, and again after one that
    /// panicked.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] if the system starts no thread.
    pub fn start(
        threads: usize,
        source: impl Fn() -> S + Clone + Send + 'static,
    ) -> Result<Self, StorageError> {
        let queue = Queue {
            jobs: VecDeque::new(),
            waiting: 0,
            asleep: vec![false; threads].into(),
            back_by: vec![None; threads].into(),
            closed: false,
        };
        let bells = (0..threads).map(|_| Condvar::new()).collect();
        let pool = Arc::new(Pool { queue: Mutex::new(queue), bells });
        let turns = Arc::new(Semaphore::new(MAX_WAITING));
        let readers = Self { pool, turns, threads: Mutex::default() };
        for number in 0..threads {
            let (pool, source) = (Arc::clone(&readers.pool), source.clone());
            let thread = thread::Builder::new().name("downbeat-read".to_owned());
            let thread = thread
                .spawn(move || pool.run(number, source))
                .map_err(|error| StorageError::io("cannot start a thread for reading", error))?;
            readers.threads().push(thread);
        }
        Ok(readers)
    }

    /// Runs a job on one of the threads. A panic in it is the caller's.
    ///
    /// # Errors
    ///
    /// [`StorageError::Closed`] after [`Self::close`].
    pub async fn run<T: Send + 'static>(
        &self,
        extent: Extent,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| StorageError::Closed)?;
        let (reply, answer) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let work = Box::new(move |source: &mut Option<S>| {
            // Whoever asked may have given up.
            if !reply.is_closed()
                && let Some(present) = source
            {
                let result = catch_unwind(AssertUnwindSafe(|| job(present)));
                if result.is_err() {
                    *source = None;
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
}

impl<S> Readers<S> {
    /// Finishes what waits, and ends the threads. Blocks meanwhile.
    pub fn close(&self) {
        self.turns.close();
        self.pool.lock().closed = true;
        self.pool.bells.iter().for_each(Condvar::notify_one);
        for thread in std::mem::take(&mut *self.threads()) {
            // Jobs catch their panics, so there is nothing to tell.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for Readers<S> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<S> fmt::Debug for Readers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("threads", &self.pool.bells.len()).finish_non_exhaustive()
    }
}

impl<S> Pool<S> {
    fn add(&self, job: Job<S>) {
        let mut queue = self.lock();
        queue.waiting += job.extent.co_values();
        queue.jobs.push_back(job);
        let much = queue.waiting > queue.awake() * BACKLOG;
        self.unlock(queue, much);
    }

    /// Works until it is closed and nothing waits.
    fn run(&self, number: usize, make: impl Fn() -> S) {
        let mut source = None;
        let mut slow = false;
        while let Some(work) = self.next(number, slow) {
            source.get_or_insert_with(&make);
            let began = Instant::now();
            work(&mut source);
            slow = began.elapsed() > SLOW;
        }
    }

    /// Waits for a job. `slow` tells whether the one before was.
    fn next(&self, number: usize, slow: bool) -> Option<Work<S>> {
        let mut queue = self.lock();
        loop {
            queue.back_by[number] = None;
            if let Some(job) = queue.jobs.pop_front() {
                queue.back_by[number] = Some(Instant::now() + job.extent.expected());
                queue.waiting -= job.extent.co_values();
                let behind = !queue.jobs.is_empty() && (slow || queue.awake() == 0);
                self.unlock(queue, behind);
                return Some(job.work);
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
    fn unlock(&self, mut queue: MutexGuard<'_, Queue<S>>, call: bool) {
        let sleeper = queue.asleep.iter().position(|asleep| call && *asleep);
        if let Some(number) = sleeper {
            queue.asleep[number] = false;
            drop(queue);
            self.bells[number].notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<S>> {
        // No statement under the lock panics halfway.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Queue<S> {
    /// Threads that will soon come to what waits.
    fn awake(&self) -> usize {
        let now = Instant::now();
        let threads = self.asleep.iter().zip(&self.back_by);
        threads.filter(|&(asleep, by)| !asleep && by.is_none_or(|by| now < by)).count()
    }
}

impl Extent {
    /// What it counts for in the queue.
    fn co_values(self) -> usize {
        match self {
            Self::CoValues(count) => count.clamp(1, BACKLOG),
            Self::Everything => BACKLOG,
        }
    }

    /// How long it takes at most if all is in memory.
    fn expected(self) -> Duration {
        match self {
            Self::CoValues(_) => SLOW,
            Self::Everything => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tokio::task::JoinHandle;

    use super::*;

    const ONE: Extent = Extent::CoValues(1);

    /// Long enough for a thread to be woken on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn jobs_are_done_in_their_order_by_a_thread_that_is_awake() {
        let readers = Readers::start(1, Vec::new).unwrap();
        for number in 0..10 {
            let before = readers.run(ONE, move |numbers| {
                numbers.push(number);
                numbers.len()
            });
            assert_eq!(before.await.unwrap(), number + 1);
        }
    }

    #[tokio::test]
    async fn a_job_that_panics_is_the_callers_and_the_thread_goes_on_with_a_new_source() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let readers = Readers::start(1, move || counter.fetch_add(1, Ordering::Relaxed)).unwrap();
        let readers = Arc::new(readers);
        assert_eq!(readers.run(ONE, |source| *source).await.unwrap(), 0);
        let panicking = Arc::clone(&readers);
        let run = async move { panicking.run(ONE, |_| panic!("on purpose")).await };
        assert!(tokio::spawn(run).await.unwrap_err().is_panic());
        assert_eq!(readers.run(ONE, |source| *source).await.unwrap(), 1);
    }

    /// A job that has begun, and ends when it is released.
    struct Busy {
        release: mpsc::Sender<()>,
        job: JoinHandle<Result<(), StorageError>>,
    }

    impl Busy {
        async fn with(readers: &Arc<Readers<()>>, extent: Extent) -> Self {
            let (release, released) = mpsc::channel();
            let (started, has_started) = oneshot::channel();
            let readers = Arc::clone(readers);
            let job = move |(): &mut ()| {
                started.send(()).unwrap();
                released.recv_timeout(PATIENCE).unwrap();
            };
            let job = tokio::spawn(async move { readers.run(extent, job).await });
            has_started.await.unwrap();
            Self { release, job }
        }

        async fn end(self) {
            self.release.send(()).unwrap();
            self.job.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_behind_a_long_job_is_done_by_another_thread() {
        let readers = Arc::new(Readers::start(2, || ()).unwrap());
        let long = Busy::with(&readers, Extent::Everything).await;
        let short = readers.run(ONE, |()| 7);
        assert_eq!(tokio::time::timeout(PATIENCE, short).await.unwrap().unwrap(), 7);
        long.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_comes_behind_a_job_that_is_slow_is_done_by_another_thread() {
        let readers = Arc::new(Readers::start(2, || ()).unwrap());
        let slow = Busy::with(&readers, ONE).await;
        tokio::time::sleep(2 * SLOW).await;
        tokio::time::timeout(PATIENCE, readers.run(ONE, |()| ())).await.unwrap().unwrap();
        slow.end().await;
    }

    #[tokio::test]
    async fn closing_finishes_what_waits_and_refuses_what_comes_later() {
        let readers = Arc::new(Readers::start(1, || ()).unwrap());
        let jobs = [1, 2].map(|number| {
            let readers = Arc::clone(&readers);
            tokio::spawn(async move { readers.run(ONE, move |()| number).await })
        });
        tokio::task::yield_now().await;
        readers.close();
        for (job, number) in jobs.into_iter().zip([1, 2]) {
            assert_eq!(job.await.unwrap().unwrap(), number);
        }
        assert!(matches!(readers.run(ONE, |()| ()).await, Err(StorageError::Closed)));
    }
}

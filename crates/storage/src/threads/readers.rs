//! A pool of threads that read.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use crate::error::StorageError;

/// Bound of the queue, in jobs. Callers beyond it wait outside the queue.
const MAX_WAITING: usize = 1_024;

/// Queued CoValues for each thread that is awake, beyond which one more thread is woken. They take
/// about a millisecond if they are in memory, so the cost of waking a thread is small in
/// comparison.
const BACKLOG: usize = 64;

/// A job that takes longer than this probably reads from the disk, and so will the jobs behind it.
/// Several times the duration of a full job that finds everything in memory.
const SLOW: Duration = Duration::from_millis(1);

/// A pool of threads that read. Each owns a source `S` to read from, for example a connection.
///
/// Reading from memory takes microseconds, less than waking a thread. So a thread that is awake
/// takes the queued jobs one after the other. Another thread is woken only when many jobs are
/// queued, or when jobs turn out to be slow because they wait for the disk. The pool always wakes
/// the first thread that sleeps. If each source has a cache, the first threads hold the popular
/// data, and the others take no memory until they are needed.
///
/// Backends should put many look-ups into one job.
///
/// Works on any async runtime. Dropping it closes it like [`Self::close`].
pub struct ReaderThreads<S> {
    pool: Arc<Pool<S>>,
    turns: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How much a job reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadExtent {
    /// This many CoValues, or anything else that takes about as long.
    CoValues(usize),
    /// The whole store.
    Everything,
}

/// State shared by the threads.
struct Pool<S> {
    queue: Mutex<Queue<S>>,
    /// One for each thread, to wake it.
    wakers: Box<[Condvar]>,
}

struct Queue<S> {
    jobs: VecDeque<Job<S>>,
    /// CoValues that the queued jobs read.
    waiting: usize,
    /// For each thread, whether it sleeps and has not been woken.
    asleep: Box<[bool]>,
    /// For each busy thread, when its job should be done if everything is in memory.
    back_by: Box<[Option<Instant>]>,
    closed: bool,
}

struct Job<S> {
    extent: ReadExtent,
    work: Work<S>,
}

/// Sets the source to `None` if it panics.
type Work<S> = Box<dyn FnOnce(&mut Option<S>) + Send>;

impl<S: 'static> ReaderThreads<S> {
    /// Starts `threads` threads. Each calls `source` before its first job, and again after a job
    /// that panicked.
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
        let wakers = (0..threads).map(|_| Condvar::new()).collect();
        let pool = Arc::new(Pool { queue: Mutex::new(queue), wakers });
        let turns = Arc::new(Semaphore::new(MAX_WAITING));
        let readers = Self { pool, turns, threads: Mutex::default() };
        for number in 0..threads {
            let (pool, source) = (Arc::clone(&readers.pool), source.clone());
            let thread = thread::Builder::new().name("downbeat-read".to_owned());
            let thread = thread
                .spawn(move || pool.run(number, source))
                .map_err(|error| StorageError::io("cannot start a reader thread", error))?;
            readers.threads().push(thread);
        }
        Ok(readers)
    }

    /// Runs a job on one of the threads, and waits for its answer. A panic of the job continues in
    /// the caller; the thread goes on with a new source.
    ///
    /// # Errors
    ///
    /// [`StorageError::Closed`] after [`Self::close`].
    pub async fn run<T: Send + 'static>(
        &self,
        extent: ReadExtent,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| StorageError::Closed)?;
        let (reply, answer) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let work = Box::new(move |source: &mut Option<S>| {
            // The caller may have given up.
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

impl<S> ReaderThreads<S> {
    /// Runs all queued jobs, and ends the threads. Blocks meanwhile.
    pub fn close(&self) {
        self.turns.close();
        self.pool.lock().closed = true;
        self.pool.wakers.iter().for_each(Condvar::notify_one);
        for thread in std::mem::take(&mut *self.threads()) {
            // Panics of jobs have gone to their callers.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for ReaderThreads<S> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<S> fmt::Debug for ReaderThreads<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderThreads")
            .field("threads", &self.pool.wakers.len())
            .finish_non_exhaustive()
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

    /// The body of a thread: runs jobs until the pool is closed and the queue is empty.
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

    /// Waits for a job. `slow` says whether the one before was slow.
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
                queue = self.wakers[number].wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.asleep[number] = false;
        }
    }

    /// Unlocks the queue, and then wakes a sleeping thread if `call` is set. Before the unlock, the
    /// woken thread would run into the lock.
    fn unlock(&self, mut queue: MutexGuard<'_, Queue<S>>, call: bool) {
        let sleeper = queue.asleep.iter().position(|asleep| call && *asleep);
        if let Some(number) = sleeper {
            queue.asleep[number] = false;
            drop(queue);
            self.wakers[number].notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<S>> {
        // No statement under the lock panics halfway.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Queue<S> {
    /// Threads that will soon look at the queue.
    fn awake(&self) -> usize {
        let now = Instant::now();
        let threads = self.asleep.iter().zip(&self.back_by);
        threads.filter(|&(asleep, by)| !asleep && by.is_none_or(|by| now < by)).count()
    }
}

impl ReadExtent {
    /// Its weight in the queue.
    fn co_values(self) -> usize {
        match self {
            Self::CoValues(count) => count.clamp(1, BACKLOG),
            Self::Everything => BACKLOG,
        }
    }

    /// Its longest duration if everything is in memory.
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

    const ONE: ReadExtent = ReadExtent::CoValues(1);

    /// Long enough for a thread to be woken on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn jobs_are_done_in_their_order_by_a_thread_that_is_awake() {
        let readers = ReaderThreads::start(1, Vec::new).unwrap();
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
        let readers =
            ReaderThreads::start(1, move || counter.fetch_add(1, Ordering::Relaxed)).unwrap();
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
        async fn with(readers: &Arc<ReaderThreads<()>>, extent: ReadExtent) -> Self {
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
        let readers = Arc::new(ReaderThreads::start(2, || ()).unwrap());
        let long = Busy::with(&readers, ReadExtent::Everything).await;
        let short = readers.run(ONE, |()| 7);
        assert_eq!(tokio::time::timeout(PATIENCE, short).await.unwrap().unwrap(), 7);
        long.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_comes_behind_a_job_that_is_slow_is_done_by_another_thread() {
        let readers = Arc::new(ReaderThreads::start(2, || ()).unwrap());
        let slow = Busy::with(&readers, ONE).await;
        tokio::time::sleep(2 * SLOW).await;
        tokio::time::timeout(PATIENCE, readers.run(ONE, |()| ())).await.unwrap().unwrap();
        slow.end().await;
    }

    #[tokio::test]
    async fn closing_finishes_what_waits_and_refuses_what_comes_later() {
        let readers = Arc::new(ReaderThreads::start(1, || ()).unwrap());
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

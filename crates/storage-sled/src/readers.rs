//! Threads that read.
//!
//! A read that finds its pages in memory takes microseconds, less than waking a thread does. So
//! reads are handed over many at a time, a thread that is awake takes what waits, one job after the
//! other, and another is only woken when reads turn out to be from the disk.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use downbeat_storage::StorageError;
use tokio::sync::{Semaphore, oneshot};

use crate::shared::Shared;

/// Threads, of which most sleep. More would only wait for the same disk.
const THREADS: usize = 8;

/// Jobs that may wait; whoever comes beyond that waits for its turn without being in the queue.
const MAX_WAITING: u32 = 1024;

/// Jobs that wait for each thread that is awake before one more is woken, whatever they take.
const BACKLOG: usize = 8;

/// A job that took longer has read from the disk, and what waits behind it probably will: several
/// times what a full job takes that finds all in memory, and not more than one access to a disk
/// that is worth waiting for with others.
const SLOW: Duration = Duration::from_millis(1);

type Job = Box<dyn FnOnce(&Shared) + Send>;

/// The threads, and what waits for them.
pub(crate) struct Readers {
    pool: Arc<Pool>,
    turns: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Pool {
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that sleep.
    asleep: usize,
    /// How many of them have been called and not woken up yet.
    called: usize,
    closed: bool,
}

impl Queue {
    /// Threads that sleep and have not been called.
    fn sleeping(&self) -> usize {
        self.asleep.saturating_sub(self.called)
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("shared", &self.pool.shared).finish_non_exhaustive()
    }
}

impl Readers {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self, StorageError> {
        let pool = Arc::new(Pool { shared, queue: Mutex::default(), ready: Condvar::new() });
        let readers = Self {
            pool,
            turns: Arc::new(Semaphore::new(MAX_WAITING as usize)),
            threads: Mutex::default(),
        };
        for _ in 0..THREADS {
            let pool = Arc::clone(&readers.pool);
            let thread = thread::Builder::new().name("downbeat-read".to_owned());
            let thread = thread
                .spawn(move || pool.run())
                .map_err(|error| StorageError::io("cannot start a thread for reading", error))?;
            readers.threads().push(thread);
        }
        Ok(readers)
    }

    /// Runs a job on one of the threads. Fails if they are ended first.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| StorageError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.pool.add(Box::new(move |shared| {
            let result = job(shared);
            drop(turn);
            // Whoever asked may have given up.
            let _ = reply.send(result);
        }));
        answer.await.map_err(|_| StorageError::Closed)
    }

    /// Finishes what waits and ends the threads. Later reads fail.
    pub(crate) fn close(&self) {
        self.turns.close();
        self.pool.lock().closed = true;
        self.pool.ready.notify_all();
        for thread in self.threads().drain(..) {
            // Reads catch their panics, so there is nothing to tell.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn add(&self, job: Job) {
        let mut queue = self.lock();
        queue.jobs.push_back(job);
        let sleeping = queue.sleeping();
        let awake = THREADS.saturating_sub(sleeping);
        let call = sleeping > 0 && queue.jobs.len() > awake * BACKLOG;
        queue.called += usize::from(call);
        drop(queue);
        if call {
            self.ready.notify_one();
        }
    }

    fn run(&self) {
        let mut took = Duration::ZERO;
        loop {
            let job = {
                let mut queue = self.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        if took > SLOW && !queue.jobs.is_empty() && queue.sleeping() > 0 {
                            queue.called += 1;
                            self.ready.notify_one();
                        }
                        break job;
                    }
                    if queue.closed {
                        return;
                    }
                    queue.asleep += 1;
                    queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    queue.asleep -= 1;
                    queue.called = queue.called.saturating_sub(1);
                }
            };
            let began = Instant::now();
            job(&self.shared);
            took = began.elapsed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No statement under the lock panics halfway.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

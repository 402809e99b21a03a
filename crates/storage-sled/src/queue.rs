//! The writer's queue: bounded by the memory that waits in it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use downbeat_storage::StorageError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What may wait for the writer, in bytes of content: a few seconds' worth for a disk. Whoever
/// comes beyond that waits until there is room.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// What a job counts for at least, in bytes, so that the queue cannot grow long by empty jobs.
const MIN_JOB_BYTES: usize = 4 << 10;

/// Queued content is counted in this unit, in bytes.
pub(crate) const UNIT: usize = 1 << 10;

/// What one group of jobs holds at most, in bytes of content (but at least one job). Readers wait
/// while a group is applied to the tree.
const MAX_GROUP_BYTES: usize = 4 << 20;

/// Jobs for the writer, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    ready: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct State<J> {
    jobs: VecDeque<Queued<J>>,
    closed: bool,
}

/// A job, with the room that it takes in the queue until that is dropped.
#[derive(Debug)]
pub(crate) struct Queued<J> {
    pub(crate) job: J,
    pub(crate) room: OwnedSemaphorePermit,
}

/// What the writer has to do next.
#[derive(Debug)]
pub(crate) enum Next<J> {
    /// These jobs.
    Group(Vec<Queued<J>>),
    /// The time is up and there is no job.
    TimeUp,
    /// There is no job, and none will come.
    Closed,
}

impl<J> Queue<J> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State { jobs: VecDeque::new(), closed: false }),
            ready: Condvar::new(),
            room: Arc::new(Semaphore::new(MAX_QUEUED_BYTES / UNIT)),
        }
    }

    /// Adds a job of this size, as soon as there is room for it.
    pub(crate) async fn push(&self, job: J, bytes: usize) -> Result<(), StorageError> {
        let units = bytes.clamp(MIN_JOB_BYTES, MAX_QUEUED_BYTES) / UNIT;
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        let room = room.acquire_many_owned(units).await.map_err(|_| StorageError::Closed)?;
        let mut state = self.lock();
        if state.closed {
            return Err(StorageError::Closed);
        }
        state.jobs.push_back(Queued { job, room });
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for jobs, no longer than to the deadline. Takes all that wait, up to the bound of a
    /// group; `alone` says which jobs are no part of a group.
    pub(crate) fn next(&self, deadline: Option<Instant>, alone: impl Fn(&J) -> bool) -> Next<J> {
        let mut state = self.lock();
        loop {
            if !state.jobs.is_empty() {
                return Next::Group(take_group(&mut state.jobs, alone));
            }
            if state.closed {
                return Next::Closed;
            }
            let Some(deadline) = deadline else {
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::TimeUp;
            }
            let waited = self.ready.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes no more jobs. Those that wait are still to be done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.ready.notify_one();
    }

    /// The state is never left half changed, so a panic elsewhere is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_group<J>(jobs: &mut VecDeque<Queued<J>>, alone: impl Fn(&J) -> bool) -> Vec<Queued<J>> {
    let mut units = 0;
    let mut count = 0;
    for queued in &*jobs {
        units += queued.room.num_permits();
        let fits = units <= MAX_GROUP_BYTES / UNIT && !alone(&queued.job);
        if count > 0 && !fits {
            break;
        }
        count += 1;
        if !fits {
            break;
        }
    }
    jobs.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(queue: &Queue<char>) -> String {
        match queue.next(Some(Instant::now()), |job| job.is_uppercase()) {
            Next::Group(jobs) => jobs.iter().map(|queued| queued.job).collect(),
            Next::TimeUp => "time up".to_owned(),
            Next::Closed => "closed".to_owned(),
        }
    }

    async fn filled(jobs: &str, bytes: usize) -> Queue<char> {
        let queue = Queue::new();
        for job in jobs.chars() {
            queue.push(job, bytes).await.unwrap();
        }
        queue
    }

    #[tokio::test]
    async fn jobs_that_wait_make_a_group() {
        let queue = filled("abc", 0).await;
        assert_eq!(group(&queue), "abc");
        assert_eq!(group(&queue), "time up");
    }

    #[tokio::test]
    async fn a_group_is_bounded_but_holds_one_job_of_any_size() {
        let queue = filled("abc", MAX_GROUP_BYTES / 2).await;
        assert_eq!((group(&queue), group(&queue)), ("ab".to_owned(), "c".to_owned()));
        let queue = filled("ab", MAX_GROUP_BYTES + UNIT).await;
        assert_eq!((group(&queue), group(&queue)), ("a".to_owned(), "b".to_owned()));
    }

    #[tokio::test]
    async fn some_jobs_come_alone() {
        let queue = filled("abCDe", 0).await;
        let groups = [group(&queue), group(&queue), group(&queue), group(&queue)];
        assert_eq!(groups, ["ab", "C", "D", "e"]);
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_next_job_wait_until_one_is_done() {
        let queue = Arc::new(filled("ab", MAX_QUEUED_BYTES / 2).await);
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.push('c', 0).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(group(&queue), "a");
        waiting.await.unwrap().unwrap();
        assert_eq!(group(&queue), "b");
        assert_eq!(group(&queue), "c");
    }

    #[tokio::test]
    async fn a_closed_queue_gives_out_what_it_holds_and_takes_nothing() {
        let queue = filled("a", 0).await;
        queue.close();
        assert!(matches!(queue.push('b', 0).await, Err(StorageError::Closed)));
        assert_eq!(group(&queue), "a");
        assert_eq!(group(&queue), "closed");
    }
}

//! The writer's queue: bounded by the memory that waits in it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use downbeat_storage::StorageError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What may wait for the writer, in bytes of content: a few seconds' worth for a disk. Whoever
/// comes beyond that waits until there is room.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// What a job counts for at least, in bytes, so that the queue cannot grow long by empty jobs.
const MIN_JOB_BYTES: usize = 4 << 10;

/// What one group of jobs holds at most, in bytes of content (but at least one job). All of them
/// wait for its end, and until then its pages are in memory.
const MAX_GROUP_BYTES: usize = 4 << 20;

/// Queued content is counted in this unit, in bytes.
const UNIT: usize = 1 << 10;

/// Where jobs are handed in.
#[derive(Debug)]
pub(crate) struct Queue<J> {
    sender: Mutex<Option<SyncSender<Queued<J>>>>,
    room: Arc<Semaphore>,
}

/// Where jobs come out, in the order in which they went in.
#[derive(Debug)]
pub(crate) struct Inbox<J> {
    receiver: Receiver<Queued<J>>,
    /// The first job that was too much for the last group.
    left: Option<Queued<J>>,
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

/// A queue and its other end.
pub(crate) fn queue<J>() -> (Queue<J>, Inbox<J>) {
    // Every job has room of this size at least, so there is a place for each that has room.
    let (sender, receiver) = sync_channel(MAX_QUEUED_BYTES / MIN_JOB_BYTES);
    let room = Arc::new(Semaphore::new(MAX_QUEUED_BYTES / UNIT));
    (Queue { sender: Mutex::new(Some(sender)), room }, Inbox { receiver, left: None })
}

impl<J> Queue<J> {
    /// Adds a job of this size, as soon as there is room for it.
    pub(crate) async fn push(&self, job: J, bytes: usize) -> Result<(), StorageError> {
        let units = bytes.clamp(MIN_JOB_BYTES, MAX_QUEUED_BYTES) / UNIT;
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        let room = room.map_err(|_| StorageError::Closed)?;
        match &*self.sender() {
            Some(sender) => sender.try_send(Queued { job, room }).map_err(|_| StorageError::Closed),
            None => Err(StorageError::Closed),
        }
    }

    /// Takes no more jobs. Those that wait are still to be done.
    pub(crate) fn close(&self) {
        self.sender().take();
        self.room.close();
    }

    /// A sender is there or not, so a panic elsewhere is no reason to stop.
    fn sender(&self) -> MutexGuard<'_, Option<SyncSender<Queued<J>>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Inbox<J> {
    /// Waits for jobs, no longer than to the deadline. Takes all that wait, up to the bound of a
    /// group.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Next<J> {
        let first = match (self.left.take(), deadline) {
            (Some(job), _) => job,
            (None, None) => match self.receiver.recv() {
                Ok(job) => job,
                Err(_) => return Next::Closed,
            },
            (None, Some(deadline)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.receiver.recv_timeout(left) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => return Next::TimeUp,
                    Err(RecvTimeoutError::Disconnected) => return Next::Closed,
                }
            }
        };
        let mut units = first.room.num_permits();
        let mut group = vec![first];
        while let Ok(job) = self.receiver.try_recv() {
            units += job.room.num_permits();
            if units > MAX_GROUP_BYTES / UNIT {
                self.left = Some(job);
                break;
            }
            group.push(job);
        }
        Next::Group(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(inbox: &mut Inbox<char>) -> String {
        match inbox.next(Some(Instant::now())) {
            Next::Group(jobs) => jobs.iter().map(|queued| queued.job).collect(),
            Next::TimeUp => "time up".to_owned(),
            Next::Closed => "closed".to_owned(),
        }
    }

    async fn filled(jobs: &str, bytes: usize) -> (Queue<char>, Inbox<char>) {
        let (queue, inbox) = queue();
        for job in jobs.chars() {
            queue.push(job, bytes).await.unwrap();
        }
        (queue, inbox)
    }

    #[tokio::test]
    async fn jobs_that_wait_make_a_group() {
        let (_queue, mut inbox) = filled("abc", 0).await;
        assert_eq!(group(&mut inbox), "abc");
        assert_eq!(group(&mut inbox), "time up");
    }

    #[tokio::test]
    async fn a_group_is_bounded_but_holds_one_job_of_any_size() {
        let (_queue, mut inbox) = filled("abc", MAX_GROUP_BYTES / 2).await;
        assert_eq!((group(&mut inbox), group(&mut inbox)), ("ab".to_owned(), "c".to_owned()));
        let (_queue, mut inbox) = filled("ab", MAX_GROUP_BYTES + UNIT).await;
        assert_eq!((group(&mut inbox), group(&mut inbox)), ("a".to_owned(), "b".to_owned()));
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_next_job_wait_until_one_is_done() {
        let (queue, mut inbox) = filled("ab", MAX_QUEUED_BYTES / 2).await;
        let queue = Arc::new(queue);
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.push('c', 0).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(group(&mut inbox), "a");
        waiting.await.unwrap().unwrap();
        assert_eq!(group(&mut inbox), "b");
        assert_eq!(group(&mut inbox), "c");
    }

    #[tokio::test]
    async fn a_queue_of_the_smallest_jobs_has_a_place_for_each() {
        let jobs = "a".repeat(MAX_QUEUED_BYTES / MIN_JOB_BYTES);
        let (_queue, mut inbox) = filled(&jobs, 0).await;
        let mut count = 0;
        while let Next::Group(jobs) = inbox.next(Some(Instant::now())) {
            count += jobs.len();
        }
        assert_eq!(count, jobs.len());
    }

    #[tokio::test]
    async fn a_closed_queue_gives_out_what_it_holds_and_takes_nothing() {
        let (queue, mut inbox) = filled("a", 0).await;
        queue.close();
        assert!(matches!(queue.push('b', 0).await, Err(StorageError::Closed)));
        assert_eq!(group(&mut inbox), "a");
        assert_eq!(group(&mut inbox), "closed");
    }
}

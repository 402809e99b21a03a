//! Grouping what waits to be written, so that many writers share one flush.

use std::collections::VecDeque;

/// How much one batch may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Jobs.
    pub jobs: usize,
    /// Bytes, as they are counted by the caller of [`Batcher::push`]. A single job may have more.
    pub bytes: u64,
}

/// A queue of jobs that are taken in batches: each as large as the limits allow, so that one
/// [`Storage::append`](crate::Storage::append) makes all of it durable at once.
///
/// It has no lock and does not wait. A task puts it behind a mutex together with a notification,
/// and a thread together with a condition variable.
///
/// ```
/// use downbeat_storage::{BatchLimits, Batcher};
///
/// let mut batcher = Batcher::new(BatchLimits { jobs: 100, bytes: 1_000 });
/// for (job, bytes) in [("a", 600), ("b", 300), ("c", 300), ("large", 5_000), ("d", 1)] {
///     batcher.push(job, bytes);
/// }
/// assert_eq!(batcher.next_batch(), ["a", "b"]);
/// assert_eq!(batcher.next_batch(), ["c"]);
/// assert_eq!(batcher.next_batch(), ["large"]);
/// assert_eq!(batcher.next_batch(), ["d"]);
/// assert!(batcher.next_batch().is_empty());
/// ```
#[derive(Debug)]
pub struct Batcher<J> {
    limits: BatchLimits,
    waiting: VecDeque<(J, u64)>,
    bytes: u64,
}

impl<J> Batcher<J> {
    /// Creates an empty queue. The queue itself is not bounded: the caller bounds it by what may
    /// wait for a write.
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, waiting: VecDeque::new(), bytes: 0 }
    }

    /// Adds a job at the end.
    pub fn push(&mut self, job: J, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waiting.push_back((job, bytes));
    }

    /// Takes the first jobs, as many as one batch may have. Takes at least one, if any is there.
    pub fn next_batch(&mut self) -> Vec<J> {
        let mut bytes = 0_u64;
        let fits = |(_, size): &&(J, u64)| {
            let before = bytes;
            bytes = bytes.saturating_add(*size);
            before == 0 || bytes <= self.limits.bytes
        };
        let count = self.waiting.iter().take(self.limits.jobs.max(1)).take_while(fits).count();
        let taken = self.waiting.drain(..count);
        let left = &mut self.bytes;
        taken
            .map(|(job, size)| {
                *left = left.saturating_sub(size);
                job
            })
            .collect()
    }

    /// The number of jobs in the queue.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no job is in the queue.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the jobs in the queue.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_jobs() {
        let mut batcher = Batcher::new(BatchLimits { jobs: 2, bytes: 10 });
        (0..3).for_each(|job| batcher.push(job, 0));
        assert_eq!(batcher.next_batch(), [0, 1]);
        assert_eq!(batcher.next_batch(), [2]);
        assert!(batcher.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_has_one_job_at_least() {
        let mut batcher = Batcher::new(BatchLimits { jobs: 100, bytes: 9 });
        for (job, bytes) in [6, 6, 12].into_iter().enumerate() {
            batcher.push(job, bytes);
        }
        for (job, left) in [(0, 18), (1, 12), (2, 0)] {
            assert_eq!(batcher.next_batch(), [job]);
            assert_eq!(batcher.bytes(), left);
        }
        assert!(batcher.next_batch().is_empty());
    }
}

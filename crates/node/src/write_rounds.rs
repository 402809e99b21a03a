//! Jobs for storage, in the order in which they are written.

use std::time::Instant;

use downbeat_driver::WRITE_LIMITS;
use downbeat_protocol::CoValueId;
use downbeat_storage::{BatchLimits, Batcher};
use downbeat_sync::{PeerId, StoreJob};
use rustc_hash::FxHashMap;

use crate::rounds::Rounds;
use crate::source::Source;
use crate::writer::Job;

/// The most of one batch. A job waits for the batch before its own, and for its own, so both
/// together have to be written well within the time that a user notices. Larger batches gain
/// little: a flush takes a few milliseconds.
const LIMITS: BatchLimits = BatchLimits { jobs: 256, bytes: 4 << 20 };

const _: () = assert!(LIMITS.jobs <= WRITE_LIMITS.jobs && LIMITS.bytes <= WRITE_LIMITS.bytes);

/// Jobs that wait for the writer. The sources of content have turns, so that the content of one
/// peer, however much it is, delays that of others by one job each round.
///
/// The stores of one CoValue keep their order, because each follows the stored content and the
/// stores before it: while some wait, later ones wait behind them, also those of other authors.
/// A note goes with the next batch, and so not later than the stores that come after it.
pub(crate) struct WriteRounds {
    rounds: Rounds<(StoreJob, Option<Instant>)>,
    /// Where the stores of a CoValue wait, and how many.
    places: FxHashMap<CoValueId, Place>,
    /// The next batch.
    next: Batcher<Job>,
}

/// The queue of a peer.
#[derive(Clone, Copy)]
struct Place {
    source: Source,
    peer: PeerId,
    jobs: usize,
}

impl Default for WriteRounds {
    fn default() -> Self {
        Self { rounds: Rounds::default(), places: FxHashMap::default(), next: Batcher::new(LIMITS) }
    }
}

impl WriteRounds {
    /// Adds a store of content that a peer has sent.
    pub(crate) fn store(
        &mut self,
        source: Source,
        peer: PeerId,
        job: StoreJob,
        began: Option<Instant>,
    ) {
        let place = self.places.entry(job.id).or_insert(Place { source, peer, jobs: 0 });
        place.jobs += 1;
        self.rounds.push(place.source, place.peer, (job, began));
    }

    /// Adds a note.
    pub(crate) fn track(&mut self, note: Job) {
        self.next.push(note, 0);
    }

    /// Takes the next batch. It is empty if no job waits.
    pub(crate) fn next_batch(&mut self) -> Vec<Job> {
        while self.next.len() < LIMITS.jobs
            && self.next.bytes() < LIMITS.bytes
            && let Some((job, began)) = self.rounds.pop()
        {
            self.leave(job.id);
            let job = Job::Store(job, began);
            let bytes = job.bytes();
            self.next.push(job, bytes);
        }
        self.next.next_batch()
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        self.rounds.len() + self.next.len()
    }

    /// A store of a CoValue waits no longer in its peer's queue.
    fn leave(&mut self, id: CoValueId) {
        let Some(place) = self.places.get_mut(&id) else { return };
        place.jobs -= 1;
        if place.jobs == 0 {
            self.places.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(co_value: u8, author: u64) -> StoreJob {
        StoreJob {
            id: CoValueId::from_short_hash(&[co_value; 19]),
            header: None,
            sessions: Vec::new(),
            delete: false,
            author: Some(PeerId(author)),
        }
    }

    fn store(rounds: &mut WriteRounds, author: u64, co_value: u8) {
        let peer = PeerId(author);
        rounds.store(Source::Peer(peer), peer, job(co_value, author), None);
    }

    /// The CoValue and the author of each job of the next batch.
    fn batch(rounds: &mut WriteRounds) -> Vec<(CoValueId, Option<PeerId>)> {
        let stores = rounds.next_batch().into_iter().filter_map(|job| match job {
            Job::Store(job, _) => Some((job.id, job.author)),
            Job::Track(_) => None,
        });
        stores.collect()
    }

    fn of(co_value: u8, author: u64) -> (CoValueId, Option<PeerId>) {
        (CoValueId::from_short_hash(&[co_value; 19]), Some(PeerId(author)))
    }

    #[test]
    fn the_store_of_a_quiet_peer_goes_with_the_next_batch() {
        let mut rounds = WriteRounds::default();
        for _ in 0..3 * LIMITS.jobs {
            store(&mut rounds, 1, 1);
        }
        store(&mut rounds, 2, 2);
        let first = batch(&mut rounds);
        assert_eq!(first.len(), LIMITS.jobs);
        assert_eq!(first[..3], [of(1, 1), of(2, 2), of(1, 1)]);
        assert_eq!(rounds.len(), 2 * LIMITS.jobs + 1);
    }

    #[test]
    fn stores_of_one_co_value_keep_their_order() {
        let mut rounds = WriteRounds::default();
        for (author, co_value) in [(1, 1), (1, 2), (1, 3), (2, 3), (2, 4), (1, 3)] {
            store(&mut rounds, author, co_value);
        }
        // The second store of 3 waits behind the first, in the queue of the first author.
        let expected = [of(1, 1), of(4, 2), of(2, 1), of(3, 1), of(3, 2), of(3, 1)];
        assert_eq!(batch(&mut rounds), expected);
        assert!(rounds.places.is_empty() && rounds.len() == 0);
    }

    #[test]
    fn a_note_goes_before_stores_that_wait() {
        let mut rounds = WriteRounds::default();
        for _ in 0..2 * LIMITS.jobs {
            store(&mut rounds, 1, 1);
        }
        let upstream = downbeat_sync::UpstreamName::new("up").unwrap();
        rounds.track(Job::track(of(1, 1).0, upstream, false));
        let first = rounds.next_batch();
        assert!(matches!(first[..], [Job::Track(_), Job::Store(..), ..]));
    }
}

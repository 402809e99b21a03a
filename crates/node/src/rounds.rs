//! A queue that serves its sources in turn.

use std::collections::VecDeque;
use std::hash::Hash;

use downbeat_sync::PeerId;
use rustc_hash::FxHashMap;

use crate::source::Source;

/// Empty queues that are kept for the next use, so that a quiet node allocates nothing for a job.
const SPARE: usize = 8;

/// Jobs of many peers. Each source has a turn in each round, and within a source each peer: the
/// jobs of one peer, however many they are, delay those of another by one job a round.
pub(crate) struct Rounds<T> {
    sources: Round<Source, Round<PeerId, VecDeque<T>>>,
    len: usize,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { sources: Round::default(), len: 0 }
    }
}

impl<T> Rounds<T> {
    /// Adds a job behind the others of its peer.
    pub(crate) fn push(&mut self, source: Source, peer: PeerId, job: T) {
        self.sources.queue(source).queue(peer).push_back(job);
        self.len += 1;
    }

    /// Puts a job back that is not finished, before the others of its peer. The peer has its next
    /// turn after all others.
    pub(crate) fn put_back(&mut self, source: Source, peer: PeerId, job: T) {
        self.sources.queue(source).queue(peer).push_front(job);
        self.len += 1;
    }

    /// Takes the job whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let job = self
            .sources
            .serve(|peers| peers.serve(VecDeque::pop_front, VecDeque::is_empty), Round::is_empty);
        self.len -= usize::from(job.is_some());
        job
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Queues that are served in turn. Empty queues have no turn.
struct Round<K, Q> {
    queues: FxHashMap<K, Q>,
    turns: VecDeque<K>,
    spare: Vec<Q>,
}

impl<K, Q> Default for Round<K, Q> {
    fn default() -> Self {
        Self { queues: FxHashMap::default(), turns: VecDeque::new(), spare: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash, Q: Default> Round<K, Q> {
    fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The queue of a key, which has something from now on.
    fn queue(&mut self, key: K) -> &mut Q {
        let Self { queues, turns, spare } = self;
        queues.entry(key).or_insert_with(|| {
            turns.push_back(key);
            spare.pop().unwrap_or_default()
        })
    }

    /// Takes something from the queue whose turn it is, which then has its next turn after all
    /// others.
    fn serve<T>(
        &mut self,
        take: impl FnOnce(&mut Q) -> Option<T>,
        is_empty: impl FnOnce(&Q) -> bool,
    ) -> Option<T> {
        let key = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let taken = take(queue);
        if !is_empty(queue) {
            self.turns.push_back(key);
        } else if let Some(queue) = self.queues.remove(&key)
            && self.spare.len() < SPARE
        {
            self.spare.push(queue);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Source {
        Source::Address([192, 0, 2, last].into())
    }

    /// Takes all jobs out.
    fn order(rounds: &mut Rounds<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| rounds.pop()).collect()
    }

    #[test]
    fn sources_take_turns_and_so_do_the_peers_of_a_source() {
        let mut rounds = Rounds::default();
        for (source, peer, job) in [
            (1, 1, "a1"),
            (1, 1, "a2"),
            (1, 1, "a3"),
            (1, 2, "b1"),
            (2, 3, "c1"),
            (2, 3, "c2"),
            (1, 2, "b2"),
        ] {
            rounds.push(address(source), PeerId(peer), job);
        }
        assert_eq!(rounds.len(), 7);
        assert_eq!(order(&mut rounds), ["a1", "c1", "b1", "c2", "a2", "b2", "a3"]);
        assert_eq!(rounds.len(), 0);
    }

    #[test]
    fn a_job_waits_for_one_job_of_each_other_source() {
        let mut rounds = Rounds::default();
        for peer in 0..1_000 {
            rounds.push(address(1), PeerId(peer), "flood");
        }
        rounds.push(address(2), PeerId(1_000), "honest");
        assert_eq!(rounds.pop(), Some("flood"));
        assert_eq!(rounds.pop(), Some("honest"));
    }

    #[test]
    fn an_unfinished_job_goes_on_after_the_others_and_before_what_its_peer_has_behind_it() {
        let mut rounds = Rounds::default();
        rounds.push(address(1), PeerId(1), "large");
        rounds.push(address(1), PeerId(1), "next");
        rounds.push(address(2), PeerId(2), "small");
        let large = rounds.pop().unwrap();
        rounds.put_back(address(1), PeerId(1), large);
        assert_eq!(order(&mut rounds), ["small", "large", "next"]);
    }
}

//! Tasks that look CoValues up in storage for the machine.

use std::sync::Arc;

use downbeat_driver::{LOOK_UP_BATCH, LookUp, list_stored, list_unsynced};
use downbeat_protocol::CoValueId;
use downbeat_storage::Storage;
use downbeat_sync::{Event, PeerId, StorageFailed, UpstreamName};
use tokio::sync::mpsc;

use crate::failure::{reading_failed, retry};
use crate::rounds::Rounds;
use crate::source::Source;
use crate::stats::{Counters, add};

/// CoValues that are looked up at the same time: eight batches, so that one that waits for the disk
/// does not delay the others, which may be in memory. All others wait in rounds.
const MAX_UNDER_WAY: usize = 8 * LOOK_UP_BATCH;

/// Starts look-ups for the machine, whose results are events.
pub(crate) struct Loader {
    inquirer: Inquirer,
    /// CoValues to look up: the peers that they are for take turns.
    wanted: Rounds<CoValueId>,
    under_way: usize,
}

impl Loader {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        let inquirer = Inquirer { storage, events, counters };
        Self { inquirer, wanted: Rounds::default(), under_way: 0 }
    }

    /// Adds a CoValue to the look-ups of a peer.
    pub(crate) fn want(&mut self, id: CoValueId, source: Source, peer: PeerId) {
        self.wanted.push(source, peer, id);
    }

    /// A CoValue has been looked up.
    pub(crate) fn found(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Looks up as many of the CoValues that were added as may be looked up at the same time.
    pub(crate) fn look_up_wanted(&mut self) {
        while let Some(ids) = self.next_batch() {
            self.start(self.inquirer.clone().load(ids));
        }
    }

    /// CoValues to look up with one call.
    fn next_batch(&mut self) -> Option<Vec<CoValueId>> {
        let count = self.wanted.len().min(LOOK_UP_BATCH);
        if count == 0 || self.under_way + count > MAX_UNDER_WAY {
            return None;
        }
        self.under_way += count;
        Some((0..count).filter_map(|_| self.wanted.pop()).collect())
    }

    /// Looks up the next CoValues that an upstream has not acknowledged in full.
    pub(crate) fn list_unsynced(
        &self,
        upstream: UpstreamName,
        after: Option<CoValueId>,
        limit: usize,
    ) {
        self.start(self.inquirer.clone().list_unsynced(upstream, after, limit));
    }

    /// Looks up the next CoValues in storage, for an upstream.
    pub(crate) fn list_stored(
        &self,
        upstream: UpstreamName,
        after: Option<CoValueId>,
        limit: usize,
    ) {
        self.start(self.inquirer.clone().list_stored(upstream, after, limit));
    }

    /// Starts an inquiry. It ends early if the engine has ended.
    fn start(&self, inquiry: impl Future<Output = ()> + Send + 'static) {
        let events = self.inquirer.events.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = inquiry => {}
                () = events.closed() => {}
            }
        });
    }
}

/// What the tasks need.
#[derive(Clone)]
struct Inquirer {
    storage: Arc<dyn Storage>,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
}

impl Inquirer {
    async fn load(self, ids: Vec<CoValueId>) {
        let mut look_up = LookUp::new(ids);
        while let Some((id, result)) = look_up.next(&*self.storage).await {
            let result = result.map_err(|error| {
                reading_failed(
                    "a CoValue could not be looked up",
                    Some(id),
                    &error,
                    &self.counters,
                );
                add(&self.counters.storage.read_retries, 1);
                StorageFailed
            });
            self.report(Event::Loaded { id, result }).await;
        }
    }

    async fn list_unsynced(self, upstream: UpstreamName, after: Option<CoValueId>, limit: usize) {
        let ask = || list_unsynced(&*self.storage, &upstream, after, limit);
        let found = retry("what an upstream lacks could not be looked up", &self.counters, ask);
        // An empty page says that there is nothing more.
        let ids = found.await.unwrap_or_default();
        self.report(Event::Unsynced { upstream, ids }).await;
    }

    async fn list_stored(self, upstream: UpstreamName, after: Option<CoValueId>, limit: usize) {
        let ask = || list_stored(&*self.storage, after, limit);
        let values = retry("what is stored could not be looked up", &self.counters, ask).await;
        let values = values.unwrap_or_default();
        self.report(Event::Listed { upstream, values }).await;
    }

    async fn report(&self, event: Event) {
        // An engine that has ended wants nothing to be looked up.
        let _ = self.events.send(event).await;
    }
}

#[cfg(test)]
mod tests {
    use downbeat_storage::MemoryStorage;

    use super::*;

    fn id(number: u16) -> CoValueId {
        let mut hash = [0; 19];
        hash[..2].copy_from_slice(&number.to_be_bytes());
        CoValueId::from_short_hash(&hash)
    }

    #[test]
    fn a_look_up_of_one_peer_is_in_the_next_batch_however_many_another_wants() {
        let (events, _incoming) = mpsc::channel(1);
        let mut loader = Loader::new(Arc::new(MemoryStorage::new()), events, Arc::default());
        let (flood, honest) = (PeerId(1), PeerId(2));
        for number in 0..10_000 {
            loader.want(id(number), Source::Peer(flood), flood);
        }
        let mut batches = 0;
        while loader.next_batch().is_some() {
            batches += 1;
        }
        assert_eq!(batches, 8, "so many are looked up at the same time");
        loader.want(id(20_000), Source::Peer(honest), honest);
        assert!(loader.next_batch().is_none());
        for _ in 0..LOOK_UP_BATCH {
            loader.found();
        }
        assert!(loader.next_batch().unwrap().contains(&id(20_000)));
    }
}

//! Tasks that look CoValues up in storage for the machine.

use std::sync::Arc;

use downbeat_driver::{LOOK_UP_BATCH, LookUp, list_stored, list_unsynced};
use downbeat_protocol::CoValueId;
use downbeat_storage::Storage;
use downbeat_sync::{Event, StorageFailed, UpstreamName};
use tokio::sync::{Semaphore, mpsc};

use crate::failure::{reading_failed, retry};
use crate::stats::{Counters, add};

/// CoValues and lists that are looked up at the same time: eight batches, so that one
/// that waits for the disk does not delay the others, which may be in memory.
const MAX_UNDER_WAY: usize = 8 * LOOK_UP_BATCH;

/// Starts look-ups for the machine, whose results are events.
pub(crate) struct Loader {
    inquirer: Inquirer,
    turns: Arc<Semaphore>,
    /// CoValues to look up with the next call.
    wanted: Vec<CoValueId>,
}

impl Loader {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        Self { inquirer: Inquirer { storage, events, counters }, turns, wanted: Vec::new() }
    }

    /// Adds a CoValue to the next look-up.
    pub(crate) fn want(&mut self, id: CoValueId) {
        self.wanted.push(id);
    }

    /// Looks up all CoValues that were added, and reports each as soon as it has been found.
    pub(crate) fn look_up_wanted(&mut self) {
        let mut wanted = std::mem::take(&mut self.wanted).into_iter();
        loop {
            let ids: Vec<_> = wanted.by_ref().take(LOOK_UP_BATCH).collect();
            let Ok(turns @ 1..) = u32::try_from(ids.len()) else { break };
            self.start(turns, self.inquirer.clone().load(ids));
        }
    }

    /// Looks up the next CoValues that an upstream has not acknowledged in full.
    pub(crate) fn list_unsynced(
        &self,
        upstream: UpstreamName,
        after: Option<CoValueId>,
        limit: usize,
    ) {
        self.start(1, self.inquirer.clone().list_unsynced(upstream, after, limit));
    }

    /// Looks up the next CoValues in storage, for an upstream.
    pub(crate) fn list_stored(
        &self,
        upstream: UpstreamName,
        after: Option<CoValueId>,
        limit: usize,
    ) {
        self.start(1, self.inquirer.clone().list_stored(upstream, after, limit));
    }

    /// Starts an inquiry when `turns` are free. It ends early if the engine has ended.
    fn start(&self, turns: u32, inquiry: impl Future<Output = ()> + Send + 'static) {
        let (events, available) = (self.inquirer.events.clone(), Arc::clone(&self.turns));
        tokio::spawn(async move {
            let _turns = available.acquire_many(turns).await;
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

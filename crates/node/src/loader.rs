//! Looking things up in storage for the machine.

use std::sync::Arc;

use downbeat_core::dependencies;
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{CoValueId, SessionCounts, ShortHash};
use downbeat_storage::{Storage, StorageError, Stored, Unsynced};
use downbeat_sync::{Event, Loaded, StorageFailed, UpstreamName};
use tokio::sync::{Semaphore, mpsc};

use crate::content::READ_BYTES;
use crate::failure::{RETRY, may_pass, reading_failed};
use crate::stats::{Counters, add};

/// CoValues that are looked up together. Handing them to a thread that reads costs little for each
/// of so many, and all of them come from memory in less than a millisecond.
const MAX_TOGETHER: u32 = 32;

/// CoValues and lists that are looked up at the same time: some calls full of CoValues, so that one
/// that waits for the disk does not keep the others from memory.
const MAX_UNDER_WAY: u32 = 8 * MAX_TOGETHER;

/// Looks up what the machine wants to know, in tasks that report it as events.
pub(crate) struct Loader {
    inquirer: Inquirer,
    turns: Arc<Semaphore>,
    /// CoValues that are looked up with the next call.
    wanted: Vec<CoValueId>,
}

impl Loader {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        events: mpsc::Sender<Event>,
        counters: Arc<Counters>,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_UNDER_WAY as usize));
        Self { inquirer: Inquirer { storage, events, counters }, turns, wanted: Vec::new() }
    }

    /// Adds a CoValue to those that are looked up when all that are wanted are known.
    pub(crate) fn want(&mut self, id: CoValueId) {
        self.wanted.push(id);
    }

    /// Looks up what is wanted, and reports each CoValue as soon as it is known.
    pub(crate) fn look_up_wanted(&mut self) {
        let mut wanted = std::mem::take(&mut self.wanted).into_iter();
        loop {
            let ids: Vec<_> = wanted.by_ref().take(MAX_TOGETHER as usize).collect();
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

    /// Starts an inquiry when there are so many turns, and ends it when nobody listens any more.
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
    /// The logs of groups are read through for their dependencies; of other CoValues only the
    /// index is read.
    async fn load(self, ids: Vec<CoValueId>) {
        let answers = self.storage.load_many(ids.clone()).await;
        let mut groups = Vec::new();
        for (id, answer) in ids.into_iter().zip(answers) {
            match answer {
                Ok(Some(stored)) if stored.header.is_group() => groups.push((id, stored)),
                Ok(stored) => {
                    self.loaded(id, Ok(stored.map(|stored| loaded(id, stored, &[])))).await;
                }
                Err(error) => self.loaded(id, Err(error)).await,
            }
        }
        for (id, stored) in groups {
            let named = named_by_group(&*self.storage, id).await;
            self.loaded(id, named.map(|named| Some(loaded(id, stored, &named)))).await;
        }
    }

    async fn loaded(&self, id: CoValueId, result: Result<Option<Loaded>, StorageError>) {
        let result = result.map(|loaded| loaded.map(Box::new)).map_err(|error| {
            reading_failed("a CoValue could not be looked up", Some(id), &error, &self.counters);
            add(&self.counters.storage.read_retries, 1);
            StorageFailed
        });
        self.report(Event::Loaded { id, result }).await;
    }

    async fn list_unsynced(self, upstream: UpstreamName, after: Option<CoValueId>, limit: usize) {
        let ids = match downbeat_storage::UpstreamName::new(&upstream) {
            Ok(name) => {
                let ask = || unsynced(&*self.storage, &name, after, limit);
                insist("what an upstream lacks could not be looked up", &self.counters, ask).await
            }
            Err(_) => Vec::new(),
        };
        self.report(Event::Unsynced { upstream, ids }).await;
    }

    async fn list_stored(self, upstream: UpstreamName, after: Option<CoValueId>, limit: usize) {
        let ask = || stored(&*self.storage, after, limit);
        let values = insist("what is stored could not be looked up", &self.counters, ask).await;
        self.report(Event::Listed { upstream, values }).await;
    }

    async fn report(&self, event: Event) {
        // An engine that has ended wants nothing to be looked up.
        let _ = self.events.send(event).await;
    }
}

/// What the transactions of a group name.
async fn named_by_group(
    storage: &dyn Storage,
    id: CoValueId,
) -> Result<Vec<CoValueId>, StorageError> {
    let mut found = Vec::new();
    let mut have = SessionCounts::new();
    loop {
        let runs = storage.read(id, &have, READ_BYTES).await?;
        if runs.is_empty() {
            return Ok(found);
        }
        for run in &runs {
            found.extend(dependencies::of_group_transactions(&run.transactions));
            have.raise(&run.session, run.end());
        }
    }
}

/// What the machine is told of a stored CoValue whose transactions name these.
fn loaded(id: CoValueId, stored: Stored, named: &[CoValueId]) -> Loaded {
    let sessions = stored.counts();
    let mut found = dependencies::of_header(&stored.header);
    found.extend(dependencies::of_sessions(sessions.iter().map(|(session, _)| session)));
    found.extend(named);
    found.retain(|dependency| *dependency != id);
    let Stored { header, deleted, .. } = stored;
    Loaded { header, sessions, dependencies: found, deleted }
}

/// The next CoValues that an upstream has not acknowledged in full.
async fn unsynced(
    storage: &dyn Storage,
    upstream: &downbeat_storage::UpstreamName,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<CoValueId>, StorageError> {
    let mut after = after.map(|id| Unsynced { id, upstream: upstream.clone() });
    let mut found = Vec::new();
    while found.len() < limit {
        let page = storage.unsynced(after, limit).await?;
        let of_upstream = page.iter().filter(|entry| entry.upstream == *upstream);
        found.extend(of_upstream.map(|entry| entry.id).take(limit - found.len()));
        after = page.last().cloned();
        if page.len() < limit {
            break;
        }
    }
    Ok(found)
}

/// The next CoValues in storage, with the hash of their sessions.
async fn stored(
    storage: &dyn Storage,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<(CoValueId, ShortHash)>, StorageError> {
    let mut found = Vec::new();
    let ids = storage.list(after, limit).await?;
    for ids in ids.chunks(MAX_TOGETHER as usize) {
        for (id, stored) in ids.iter().zip(storage.load_many(ids.to_vec()).await) {
            if let Some(stored) = stored? {
                found.push((*id, sessions_hash(&stored.counts())));
            }
        }
    }
    Ok(found)
}

/// Asks until storage answers: an empty answer would say that there is nothing more. What is
/// damaged is passed over as if it were nothing, and logged.
async fn insist<T: Default, F>(what: &str, counters: &Counters, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, StorageError>>,
{
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(error) => {
                reading_failed(what, None, &error, counters);
                if !may_pass(&error) {
                    return T::default();
                }
            }
        }
        add(&counters.storage.read_retries, 1);
        tokio::time::sleep(RETRY).await;
    }
}

//! Looking CoValues up in storage: the machine's `Load`, `ListUnsynced` and `ListStored` actions.

use std::collections::VecDeque;

use downbeat_core::dependencies;
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{CoValueId, SessionCounts, ShortHash};
use downbeat_storage::{Storage, StorageError, StoredCoValue, Unsynced, UpstreamName};
use downbeat_sync::Loaded;

use crate::content::READ_BYTES;

/// How many CoValues to look up with one call to storage. Handing 32 of them to a reader thread
/// costs little for each one, and if all are cached, the call takes less than a millisecond.
pub const LOOK_UP_BATCH: usize = 32;

/// Looks up a batch of CoValues for the machine.
///
/// The first call of [`Self::next`] looks up all of them. CoValues that are no groups come first,
/// because the whole log of a group has to be read for its dependencies.
///
/// ```
/// use downbeat_driver::{LookUp, block_on};
/// use downbeat_storage::MemoryStorage;
///
/// let id = downbeat_protocol::CoValueId::parse("co_z1")?;
/// let storage = MemoryStorage::new();
/// let mut look_up = LookUp::new(vec![id]);
/// let (found, loaded) = block_on(look_up.next(&storage)).expect("there is an answer for each id");
/// assert!(found == id && loaded?.is_none());
/// assert!(block_on(look_up.next(&storage)).is_none());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LookUp {
    /// The CoValues to look up, until they are.
    ids: Vec<CoValueId>,
    found: VecDeque<(CoValueId, Result<Option<StoredCoValue>, StorageError>)>,
    groups: VecDeque<(CoValueId, StoredCoValue)>,
}

impl LookUp {
    /// Prepares to look up these CoValues: up to [`LOOK_UP_BATCH`] make sense.
    pub fn new(ids: Vec<CoValueId>) -> Self {
        Self { ids, found: VecDeque::new(), groups: VecDeque::new() }
    }

    /// Returns the next CoValue with what the machine has to know of it.
    pub async fn next(
        &mut self,
        storage: &dyn Storage,
    ) -> Option<(CoValueId, Result<Option<Box<Loaded>>, StorageError>)> {
        if !self.ids.is_empty() {
            self.load(storage).await;
        }
        if let Some((id, result)) = self.found.pop_front() {
            let loaded = |stored| Box::new(loaded(id, stored, &[]));
            return Some((id, result.map(|stored| stored.map(loaded))));
        }
        let (id, stored) = self.groups.pop_front()?;
        let named = named_by_group(storage, id).await;
        Some((id, named.map(|named| Some(Box::new(loaded(id, stored, &named))))))
    }

    async fn load(&mut self, storage: &dyn Storage) {
        let ids = std::mem::take(&mut self.ids);
        let results = storage.load_many(ids.clone()).await;
        for (id, result) in ids.into_iter().zip(results) {
            match result {
                Ok(Some(stored)) if stored.header.is_group() => {
                    self.groups.push_back((id, stored));
                }
                result => self.found.push_back((id, result)),
            }
        }
    }
}

/// Returns the CoValues that the transactions of a group name.
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

/// Makes the machine's view of a stored CoValue whose transactions name the CoValues in `named`.
fn loaded(id: CoValueId, stored: StoredCoValue, named: &[CoValueId]) -> Loaded {
    let sessions = stored.counts();
    let mut found = dependencies::of_header(&stored.header);
    found.extend(dependencies::of_sessions(sessions.iter().map(|(session, _)| session)));
    found.extend(named);
    found.retain(|dependency| *dependency != id);
    let StoredCoValue { header, deleted, .. } = stored;
    Loaded { header, sessions, dependencies: found, deleted }
}

/// Returns up to `limit` CoValues after `after` that the upstream has not acknowledged in full.
pub async fn list_unsynced(
    storage: &dyn Storage,
    upstream: &UpstreamName,
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

/// Returns up to `limit` stored CoValues after `after`, each with the hash of its sessions.
pub async fn list_stored(
    storage: &dyn Storage,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<(CoValueId, ShortHash)>, StorageError> {
    let mut found = Vec::new();
    let ids = storage.list(after, limit).await?;
    for ids in ids.chunks(LOOK_UP_BATCH) {
        for (id, stored) in ids.iter().zip(storage.load_many(ids.to_vec()).await) {
            if let Some(stored) = stored? {
                found.push((*id, sessions_hash(&stored.counts())));
            }
        }
    }
    Ok(found)
}

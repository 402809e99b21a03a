//! Looking things up in storage for the machine.

use downbeat_core::dependencies;
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{CoValueId, SessionCounts, ShortHash};
use downbeat_storage::{Storage, StorageError, Unsynced, UpstreamName};
use downbeat_sync::Loaded;

use tracing::error;

use crate::content::READ_BYTES;
use crate::failure::{RETRY, may_pass};
use crate::stats::{Counters, add};

/// What storage has of a CoValue. The logs of groups are read through for their dependencies;
/// of other CoValues only the index is read.
pub(crate) async fn load(
    storage: &dyn Storage,
    id: CoValueId,
) -> Result<Option<Box<Loaded>>, StorageError> {
    let Some(stored) = storage.load(id).await? else { return Ok(None) };
    let sessions = stored.counts();
    let mut found = dependencies::of_header(&stored.header);
    found.extend(dependencies::of_sessions(sessions.iter().map(|(session, _)| session)));
    if stored.header.is_group() {
        let mut have = SessionCounts::new();
        loop {
            let runs = storage.read(id, &have, READ_BYTES).await?;
            if runs.is_empty() {
                break;
            }
            for run in &runs {
                found.extend(dependencies::of_group_transactions(&run.transactions));
                have.raise(&run.session, run.end());
            }
        }
    }
    found.retain(|dependency| *dependency != id);
    let loaded =
        Loaded { header: stored.header, sessions, dependencies: found, deleted: stored.deleted };
    Ok(Some(Box::new(loaded)))
}

/// The next CoValues that an upstream has not acknowledged in full.
pub(crate) async fn unsynced(
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

/// The next CoValues in storage, with the hash of their sessions.
pub(crate) async fn stored(
    storage: &dyn Storage,
    after: Option<CoValueId>,
    limit: usize,
) -> Result<Vec<(CoValueId, ShortHash)>, StorageError> {
    let mut found = Vec::new();
    for id in storage.list(after, limit).await? {
        if let Some(stored) = storage.load(id).await? {
            found.push((id, sessions_hash(&stored.counts())));
        }
    }
    Ok(found)
}

/// Asks until storage answers: an empty answer would say that there is nothing more. What is
/// damaged is passed over as if it were nothing, and logged.
pub(crate) async fn insist<T: Default, F>(
    what: &str,
    counters: &Counters,
    mut ask: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Result<T, StorageError>>,
{
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(error) => {
                error!(%error, "{what} could not be looked up");
                if !may_pass(&error) {
                    return T::default();
                }
            }
        }
        add(&counters.storage.read_retries, 1);
        tokio::time::sleep(RETRY).await;
    }
}

//! Looking CoValues up in storage for the machine.

use downbeat_core::dependencies;
use downbeat_protocol::{CoValueId, SessionCounts};
use downbeat_storage::{Storage, StorageError};
use downbeat_sync::Loaded;

use crate::content::READ_BYTES;

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

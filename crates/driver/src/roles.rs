//! Roles in groups: reading a group with all its parents.

use std::collections::{BTreeMap, BTreeSet};

use downbeat_core::dependencies;
use downbeat_core::roles::{FamilyLoader, Group, Roles};
use downbeat_protocol::{CoValueId, SessionCounts, SessionId, Transaction};
use downbeat_storage::StorageError;

use crate::chunker::ReadRequest;
use crate::content::{ContentStore, READ_BYTES};

/// A group with all of its parents.
#[derive(Debug)]
pub struct Family {
    /// The roles in each of the groups.
    pub roles: Roles,
    /// The CoValues that any transaction of the groups names as a member or a parent.
    pub named: BTreeSet<CoValueId>,
    /// Bytes of transactions that were read.
    pub bytes: u64,
}

/// Reads a group and all its parents. Returns `None` if one of them is not stored, or if there are
/// more than [`MAX_GROUPS`](downbeat_core::roles::MAX_GROUPS).
pub async fn load_family(
    content: &ContentStore,
    group: CoValueId,
) -> Result<Option<Family>, StorageError> {
    let (mut named, mut bytes) = (BTreeSet::new(), 0);
    let mut loader = FamilyLoader::new(group);
    while let Some(id) = loader.next_missing() {
        let group = load_group(content, id, &mut named, &mut bytes).await?;
        let Some(group) = group else { return Ok(None) };
        loader.insert(group);
    }
    Ok(loader.finish().map(|roles| Family { roles, named, bytes }))
}

async fn load_group(
    content: &ContentStore,
    id: CoValueId,
    named: &mut BTreeSet<CoValueId>,
    bytes: &mut u64,
) -> Result<Option<Group>, StorageError> {
    let Some(stored) = content.storage().load(id).await? else { return Ok(None) };
    let until = stored.counts();
    let mut have = SessionCounts::new();
    let mut logs: BTreeMap<SessionId, Vec<Transaction>> = BTreeMap::new();
    loop {
        let request = ReadRequest { id, have: &have, until: &until, max_bytes: READ_BYTES };
        let runs = content.read(&request).await?;
        if runs.is_empty() {
            break;
        }
        for run in runs {
            have.raise(&run.session, run.end());
            *bytes += run.json_len();
            named.extend(dependencies::of_group_transactions(&run.transactions));
            logs.entry(run.session).or_default().extend(run.transactions);
        }
    }
    let sessions = logs.iter().map(|(session, log)| (session, log.as_slice()));
    Ok(Some(Group::new(id, &stored.header, sessions)))
}

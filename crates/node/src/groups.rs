//! Reading groups from storage, to find out who has which role in them.

use std::collections::{BTreeMap, BTreeSet};

use downbeat_core::dependencies;
use downbeat_core::roles::{Group, Roles};
use downbeat_protocol::{CoValueId, SessionCounts, SessionId, Transaction};
use downbeat_storage::StorageError;
use downbeat_sync::Wanted;

use crate::content::{ContentStore, READ_BYTES};

/// Groups that are read to find out one role. Parents of parents of parents: nobody has so many.
const MAX_GROUPS: usize = 10_000;

/// A group and all of its parents.
pub(crate) struct Family {
    pub roles: Roles,
    /// The CoValues that are named as members or parents, by whomever.
    pub named: BTreeSet<CoValueId>,
}

/// The history of a group and of all its parents; `None` if one of them is not there.
pub(crate) async fn load(
    content: &ContentStore,
    group: CoValueId,
) -> Result<Option<Family>, StorageError> {
    let mut family = Family { roles: Roles::new(), named: BTreeSet::new() };
    let mut missing = vec![group];
    let mut read = 0;
    while !missing.is_empty() {
        for id in missing {
            read += 1;
            let Some(group) = load_one(content, id, &mut family.named).await? else {
                return Ok(None);
            };
            if read > MAX_GROUPS {
                return Ok(None);
            }
            family.roles.insert(group);
        }
        missing = family.roles.missing();
    }
    Ok(Some(family))
}

async fn load_one(
    content: &ContentStore,
    id: CoValueId,
    named: &mut BTreeSet<CoValueId>,
) -> Result<Option<Group>, StorageError> {
    let Some(stored) = content.storage().load(id).await? else { return Ok(None) };
    let until = stored.counts();
    let mut have = SessionCounts::new();
    let mut logs: BTreeMap<SessionId, Vec<Transaction>> = BTreeMap::new();
    loop {
        let wanted = Wanted { id, have: &have, until: &until, max_bytes: READ_BYTES };
        let runs = content.read(&wanted).await?;
        if runs.is_empty() {
            break;
        }
        for run in runs {
            have.raise(&run.session, run.end());
            named.extend(dependencies::of_group_transactions(&run.transactions));
            logs.entry(run.session).or_default().extend(run.transactions);
        }
    }
    let sessions = logs.iter().map(|(session, log)| (session, log.as_slice()));
    Ok(Some(Group::new(id, &stored.header, sessions)))
}

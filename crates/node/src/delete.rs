//! Whether the author of a deletion was allowed to delete, by the history of the owning group.

use std::collections::BTreeMap;

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::{Group, Member, Roles};
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId, Transaction};
use downbeat_storage::StorageError;
use downbeat_sync::Rejection;

use tracing::error;

use crate::content::{ContentStore, READ_BYTES};
use crate::verifier::Failure;

/// Groups that are read to find out one role. Parents of parents of parents: nobody has so many.
const MAX_GROUPS: usize = 10_000;

/// Checks a claim against the group that it names, and the group's parents.
pub(crate) async fn check(content: &ContentStore, claim: &Claim) -> Result<(), Failure> {
    let role = match load_roles(content, claim.group).await {
        Ok(Some(mut roles)) => {
            let author = Member::from(claim.author.clone());
            roles.role_of(claim.group, &author, Some(claim.made_at))
        }
        Ok(None) => return Err(Rejection::from(DeleteError::RoleUnknown).into()),
        Err(error) => {
            error!(group = %claim.group, %error, "a group could not be read");
            return Err(Failure::of_storage(&error));
        }
    };
    let decided = match role {
        Ok(role) => claim.decide(role),
        Err(_) => Err(DeleteError::RoleUnknown),
    };
    decided.map_err(|error| Rejection::from(error).into())
}

/// The history of a group and of all its parents; `None` if one of them is not there.
async fn load_roles(
    content: &ContentStore,
    group: CoValueId,
) -> Result<Option<Roles>, StorageError> {
    let mut roles = Roles::new();
    let mut missing = vec![group];
    let mut read = 0;
    while !missing.is_empty() {
        for id in missing {
            read += 1;
            let Some(group) = load_group(content, id).await? else { return Ok(None) };
            if read > MAX_GROUPS {
                return Ok(None);
            }
            roles.insert(group);
        }
        missing = roles.missing();
    }
    Ok(Some(roles))
}

async fn load_group(content: &ContentStore, id: CoValueId) -> Result<Option<Group>, StorageError> {
    let Some(stored) = content.storage().load(id).await? else { return Ok(None) };
    let until = stored.counts();
    let mut have = SessionCounts::new();
    let mut logs: BTreeMap<SessionId, Vec<Transaction>> = BTreeMap::new();
    loop {
        let runs: Vec<SessionContent> = content.read(id, &have, &until, READ_BYTES).await?;
        if runs.is_empty() {
            break;
        }
        for run in runs {
            have.raise(&run.session, run.end());
            logs.entry(run.session).or_default().extend(run.transactions);
        }
    }
    let sessions = logs.iter().map(|(session, log)| (session, log.as_slice()));
    Ok(Some(Group::new(id, &stored.header, sessions)))
}

//! Looking things up in storage for the machine, as the runtime does: what there is of a CoValue,
//! lists of CoValues, and whether somebody may delete.

use std::collections::BTreeMap;

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::dependencies;
use downbeat_core::roles::{Group, Member, Roles};
use downbeat_crypto::sessions_hash;
use downbeat_protocol::{CoValueId, SessionCounts, SessionId, ShortHash, Transaction};
use downbeat_storage::{MemoryStorage, Storage, Stored, Unsynced, UpstreamName};
use downbeat_sync::{Loaded, Rejection, Wanted};

use crate::content::{ContentStore, READ_BYTES};
use crate::node::at_once;

/// What storage has of a CoValue.
pub(crate) fn stored(storage: &MemoryStorage, id: CoValueId) -> Option<Stored> {
    at_once(storage.load(id)).ok().flatten()
}

/// What the machine is told of it.
pub(crate) fn load(storage: &MemoryStorage, id: CoValueId) -> Option<Box<Loaded>> {
    let stored = stored(storage, id)?;
    let sessions = stored.counts();
    let mut found = dependencies::of_header(&stored.header);
    found.extend(dependencies::of_sessions(sessions.iter().map(|(session, _)| session)));
    if stored.header.is_group() {
        let runs = at_once(storage.read(id, &SessionCounts::new(), usize::MAX)).unwrap_or_default();
        for run in runs {
            found.extend(dependencies::of_group_transactions(&run.transactions));
        }
    }
    found.retain(|dependency| *dependency != id);
    let (header, deleted) = (stored.header, stored.deleted);
    Some(Box::new(Loaded { header, sessions, dependencies: found, deleted }))
}

/// The next CoValues that an upstream has not acknowledged in full.
pub(crate) fn unsynced(
    storage: &MemoryStorage,
    upstream: &UpstreamName,
    after: Option<CoValueId>,
    limit: usize,
) -> Vec<CoValueId> {
    let after = after.map(|id| Unsynced { id, upstream: upstream.clone() });
    let all = at_once(storage.unsynced(after, usize::MAX)).unwrap_or_default();
    let of_upstream = all.into_iter().filter(|entry| entry.upstream == *upstream);
    of_upstream.map(|entry| entry.id).take(limit).collect()
}

/// The next CoValues in storage, with the hash of their sessions.
pub(crate) fn list(
    storage: &MemoryStorage,
    after: Option<CoValueId>,
    limit: usize,
) -> Vec<(CoValueId, ShortHash)> {
    let ids = at_once(storage.list(after, limit)).unwrap_or_default();
    let with_hash = |id| Some((id, sessions_hash(&stored(storage, id)?.counts())));
    ids.into_iter().filter_map(with_hash).collect()
}

/// Checks a claim to delete against the group that it names, and the group's parents.
pub(crate) fn check_claim(content: &ContentStore, claim: &Claim) -> Result<(), Rejection> {
    let mut roles = Roles::new();
    let mut missing = vec![claim.group];
    while !missing.is_empty() {
        for id in missing {
            roles.insert(group(content, id).ok_or(DeleteError::RoleUnknown)?);
        }
        missing = roles.missing();
    }
    let author = Member::from(claim.author.clone());
    let role = roles.role_of(claim.group, &author, Some(claim.made_at));
    claim.decide(role.map_err(|_| DeleteError::RoleUnknown)?).map_err(Rejection::from)
}

fn group(content: &ContentStore, id: CoValueId) -> Option<Group> {
    let stored = stored(content.storage(), id)?;
    let until = stored.counts();
    let mut have = SessionCounts::new();
    let mut logs: BTreeMap<SessionId, Vec<Transaction>> = BTreeMap::new();
    loop {
        let wanted = Wanted { id, have: &have, until: &until, max_bytes: READ_BYTES };
        let runs = content.read(&wanted);
        if runs.is_empty() {
            break;
        }
        for run in runs {
            have.raise(&run.session, run.end());
            logs.entry(run.session).or_default().extend(run.transactions);
        }
    }
    let sessions = logs.iter().map(|(session, log)| (session, log.as_slice()));
    Some(Group::new(id, &stored.header, sessions))
}

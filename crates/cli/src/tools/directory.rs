//! What has to be known of other CoValues to check one: the keys of accounts, and the roles in
//! groups.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::{Group, Member, Roles};
use downbeat_crypto::{VerifyingKey, header_id};
use downbeat_protocol::{CoValueId, SessionCounts, SessionId, Transaction};
use downbeat_storage::StorageError;

use super::check::{Checked, Extension, Reason, Refusal, check};
use super::store::Store;

/// Keys that are kept, about 250 bytes each. More authors than are usually at work at a time;
/// another one costs a look-up in the store.
const MAX_KEYS: usize = 20_000;

/// Groups with all their parents that are kept, because one group owns many CoValues.
const MAX_KEPT_ROLES: usize = 64;

/// Groups that are read to find out one role. Parents of parents of parents: nobody has so many.
const MAX_GROUPS: usize = 10_000;

/// Looks into stores, in order: what one does not have, or cannot read, the next may.
pub(crate) struct Directory {
    stores: Vec<Store>,
    keys: Mutex<HashMap<CoValueId, VerifyingKey>>,
    roles: Mutex<HashMap<CoValueId, Loaded>>,
}

/// A group with its parents, as they are in each store. `None` where one of them is not there.
type Loaded = Vec<Option<Roles>>;

impl Directory {
    /// A directory over these stores.
    pub(crate) fn new(stores: Vec<Store>) -> Self {
        Self { stores, keys: Mutex::default(), roles: Mutex::default() }
    }

    /// The key of an account.
    pub(crate) fn key(&self, account: CoValueId) -> Result<VerifyingKey, Refusal> {
        if let Some(key) = lock(&self.keys).get(&account) {
            return Ok(key.clone());
        }
        for store in &self.stores {
            let Some(stored) = readable(store.load(account))?.flatten() else { continue };
            let agent = stored.header.account_agent();
            let Some(agent) = agent.filter(|_| header_id(&stored.header) == account) else {
                continue;
            };
            let key = VerifyingKey::new(agent.signer()).map_err(Reason::from)?;
            let mut keys = lock(&self.keys);
            if keys.len() >= MAX_KEYS {
                keys.clear();
            }
            keys.insert(account, key.clone());
            return Ok(key);
        }
        Err(Reason::UnknownAccount(account).into())
    }

    /// Whether a deletion is valid, by the first store that says so.
    pub(crate) fn may_delete(
        &self,
        claim: &Claim,
    ) -> Result<Result<(), DeleteError>, StorageError> {
        // One at a time: deletions are rare, and most of them are of few groups.
        let mut kept = lock(&self.roles);
        if !kept.contains_key(&claim.group) {
            if kept.len() >= MAX_KEPT_ROLES {
                kept.clear();
            }
            let loaded = self.load_roles(claim.group)?;
            kept.insert(claim.group, loaded);
        }
        let author = Member::from(claim.author.clone());
        let mut decision = Err(DeleteError::RoleUnknown);
        for roles in kept.get_mut(&claim.group).into_iter().flatten().flatten() {
            let Ok(role) = roles.role_of(claim.group, &author, Some(claim.made_at)) else {
                continue;
            };
            decision = claim.decide(role);
            if decision.is_ok() {
                break;
            }
        }
        Ok(decision)
    }

    /// Forgets what has been found out of groups: they may have grown.
    pub(crate) fn forget_roles(&self) {
        lock(&self.roles).clear();
    }

    fn load_roles(&self, group: CoValueId) -> Result<Loaded, StorageError> {
        let load = |store| Ok(self.load_groups(store, group)?.map(|groups| groups.roles));
        self.stores.iter().map(load).collect()
    }

    /// A group and all its parents in a store; `None` if one of them is not there. Only what is in
    /// order counts.
    pub(crate) fn load_groups(
        &self,
        store: &Store,
        group: CoValueId,
    ) -> Result<Option<Groups>, StorageError> {
        let mut groups = Groups { roles: Roles::new(), members: Vec::new() };
        let mut missing = vec![group];
        let mut read = 0;
        while !missing.is_empty() {
            for id in missing {
                read += 1;
                let Some(group) = self.load_group(store, id)? else { return Ok(None) };
                if read > MAX_GROUPS {
                    return Ok(None);
                }
                groups.members.extend(group.members());
                groups.roles.insert(group);
            }
            missing = groups.roles.missing();
        }
        groups.members.sort_unstable();
        groups.members.dedup();
        Ok(Some(groups))
    }

    fn load_group(&self, store: &Store, id: CoValueId) -> Result<Option<Group>, StorageError> {
        let Some(stored) = readable(store.load(id))?.flatten() else { return Ok(None) };
        let Ok(mut checked) = Checked::new(id, stored.header) else { return Ok(None) };
        let mut logs: BTreeMap<SessionId, Vec<Transaction>> = BTreeMap::new();
        let gather = |_: &Checked, extensions: Vec<Extension>| {
            for Extension { content, .. } in extensions {
                logs.entry(content.session).or_default().extend(content.transactions);
            }
            Ok::<_, StorageError>(())
        };
        check(store, SessionCounts::new(), &mut checked, self, gather, |_, _| {})?;
        let sessions = logs.iter().map(|(session, log)| (session, log.as_slice()));
        Ok(Some(Group::new(id, checked.header(), sessions)))
    }
}

/// A group with all its parents.
pub(crate) struct Groups {
    /// Who has which role.
    pub roles: Roles,
    /// All who are named in one of the groups, sorted.
    pub members: Vec<Member>,
}

/// `None` for what is damaged. Who needs it finds it missing, and it is reported where it is
/// checked itself.
fn readable<T>(result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StorageError::Corrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Nothing is left half done where these locks are held, so a panic elsewhere is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

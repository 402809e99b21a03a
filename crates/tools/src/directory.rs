//! Facts about other CoValues that a check needs: the keys of accounts, and the roles in groups.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::{FamilyLoader, Group, Member, Roles};
use downbeat_crypto::{VerifyingKey, header_id};
use downbeat_protocol::{CoValueId, SessionCounts, SessionId, Transaction};
use downbeat_storage::StorageError;

use crate::check::{CheckFailure, Checked, Extension, Reason, check};
use crate::store::Store;

/// Cached keys, about 250 bytes each. More than the authors that usually write at a time; a miss
/// costs one look-up in the store.
const MAX_KEYS: usize = 20_000;

/// Cached groups, each with all its parents. One group owns many CoValues.
const MAX_KEPT_ROLES: usize = 64;

/// Looks up accounts and groups in several stores, in order. The next store is asked if one lacks
/// the CoValue or cannot read it.
pub(crate) struct Directory {
    stores: Vec<Store>,
    keys: Mutex<HashMap<CoValueId, VerifyingKey>>,
    roles: Mutex<HashMap<CoValueId, Loaded>>,
}

/// A group with its parents, for each store. `None` if the store lacks one of them.
type Loaded = Vec<Option<Roles>>;

impl Directory {
    /// A directory over these stores.
    pub(crate) fn new(stores: Vec<Store>) -> Self {
        Self { stores, keys: Mutex::default(), roles: Mutex::default() }
    }

    /// The key of an account.
    pub(crate) fn key(&self, account: CoValueId) -> Result<VerifyingKey, CheckFailure> {
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

    /// Whether a deletion is valid according to any of the stores.
    pub(crate) fn may_delete(
        &self,
        claim: &Claim,
    ) -> Result<Result<(), DeleteError>, StorageError> {
        // The lock is held throughout: deletions are rare, and most belong to few groups.
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

    /// Drops the cached groups, because they may have changed.
    pub(crate) fn forget_roles(&self) {
        lock(&self.roles).clear();
    }

    fn load_roles(&self, group: CoValueId) -> Result<Loaded, StorageError> {
        let load = |store| Ok(self.load_groups(store, group)?.map(|groups| groups.roles));
        self.stores.iter().map(load).collect()
    }

    /// Loads a group and all its parents from a store; `None` if one of them is missing. Invalid
    /// content is ignored.
    pub(crate) fn load_groups(
        &self,
        store: &Store,
        group: CoValueId,
    ) -> Result<Option<Groups>, StorageError> {
        let mut members = Vec::new();
        let mut loader = FamilyLoader::new(group);
        while let Some(id) = loader.next_missing() {
            let Some(group) = self.load_group(store, id)? else { return Ok(None) };
            members.extend(group.members());
            loader.insert(group);
        }
        members.sort_unstable();
        members.dedup();
        Ok(loader.finish().map(|roles| Groups { roles, members }))
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
    /// The roles of the members.
    pub roles: Roles,
    /// All members that are named in one of the groups, sorted.
    pub members: Vec<Member>,
}

/// `None` for damaged data. To its dependents it is missing; the damage is reported when the
/// CoValue itself is checked.
fn readable<T>(result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StorageError::Corrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ignores poisoning: the locked data is consistent at every point where a thread could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

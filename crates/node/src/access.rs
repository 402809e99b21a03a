//! Which accounts' content a node stores.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use downbeat_crypto::header_id;
use downbeat_protocol::{CoValueId, Header, Owner};

/// The accounts whose content a node stores, for
/// [`NodeBuilder::access`](crate::NodeBuilder::access).
///
/// [`docs/access.md`] describes the rules in detail.
///
/// [`docs/access.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/access.md
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// Content of all accounts.
    #[default]
    Open,
    /// Content of some accounts, and the content that it depends on.
    Accounts {
        /// The accounts. The list can be changed while the node runs.
        accounts: AccountList,
        /// Quota of each account, in bytes of headers and transactions; `None` for no quota.
        quota: Option<u64>,
    },
}

/// A list of accounts that can be changed while a node uses it. Clones are the same list.
#[derive(Clone, Default)]
pub struct AccountList {
    ids: Arc<RwLock<Arc<BTreeSet<CoValueId>>>>,
}

impl AccountList {
    /// A list of these accounts.
    pub fn new(accounts: impl IntoIterator<Item = CoValueId>) -> Self {
        let list = Self::default();
        list.set(accounts);
        list
    }

    /// Replaces the list. Content of accounts that are no longer listed stays stored.
    pub fn set(&self, accounts: impl IntoIterator<Item = CoValueId>) {
        let ids = Arc::new(accounts.into_iter().collect());
        *self.ids.write().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    /// Whether an account is listed.
    pub fn contains(&self, account: CoValueId) -> bool {
        self.snapshot().contains(&account)
    }

    /// The accounts that are listed now.
    pub fn snapshot(&self) -> Arc<BTreeSet<CoValueId>> {
        Arc::clone(&self.ids.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for AccountList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.snapshot().iter()).finish()
    }
}

/// The account of a session's owner. An agent's account can be computed from the agent, because its
/// header contains only the agent, and both sign with the same key.
pub(crate) fn account_of(owner: &Owner) -> CoValueId {
    match owner {
        Owner::Account(account) => *account,
        Owner::Agent(agent) => header_id(&Header::account(agent)),
    }
}

#[cfg(test)]
mod tests {
    use downbeat_crypto::AgentSecret;

    use super::*;

    #[test]
    fn an_agent_is_its_account() {
        let agent = AgentSecret::generate().unwrap().agent();
        let account = header_id(&Header::account(&agent));
        assert_eq!(account_of(&Owner::Agent(agent)), account);
        assert_eq!(account_of(&Owner::Account(account)), account);
    }

    #[test]
    fn a_change_of_the_list_is_seen_through_its_clones() {
        let (one, other) = ("co_z1".parse().unwrap(), "co_z2".parse().unwrap());
        let list = AccountList::new([one]);
        let seen = list.clone();
        list.set([other]);
        assert!(seen.contains(other) && !seen.contains(one));
    }
}

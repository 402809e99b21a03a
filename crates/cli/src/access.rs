//! Access control by keys, sites and accounts, which follows changes of their files.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use downbeat_admin::SharedNode;
use downbeat_node::{Access, AccountList, KeyLimits};
use downbeat_transport::{
    Admission, AdmissionRefusal, AdmissionRequest, Admitted, ApiKey, CloseCode, CloseReason,
    PeerInfo,
};
use tracing::info;

use crate::config::{AccessConfig, Config, Problems, Site};
use crate::keys::{KeyFile, KeyHash};
use crate::watched::{Content, Poll, Read, Watched, read_accounts};

/// How long connections are checked after a change of the keys. A connection that was admitted just
/// before the change may reach the node later: a handshake takes up to ten seconds.
const SWEEP_TIME: Duration = Duration::from_secs(15);
/// The retry delay for a client whose key has its maximum of connections.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Admits or refuses clients during the handshake.
pub(crate) struct Admissions {
    /// `None` if clients need no key.
    keys: Option<RwLock<Arc<KeyFile>>>,
    sites: Vec<Site>,
    connections: Arc<Mutex<HashMap<String, u64>>>,
}

impl Admission for Admissions {
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, AdmissionRefusal> {
        if let Some(origin) = request.origin
            && !self.sites.is_empty()
            && !self.sites.iter().any(|site| site.has(origin))
        {
            return Err(AdmissionRefusal::forbidden("pages of this site may not connect here"));
        }
        let Some(keys) = self.keys() else { return Ok(Admitted::anonymous()) };
        let Some(key) = request.key else {
            return Err(AdmissionRefusal::unauthorized(
                "an access key is required: add ?key=KEY to the URL",
            ));
        };
        let Some(entry) = keys.find(key.expose()) else {
            return Err(AdmissionRefusal::unauthorized("this access key is unknown"));
        };
        let admitted = Admitted::labelled(entry.name.0.as_str());
        // Counted even without a maximum, because the key may get one later.
        let max = entry.max_connections.map_or(u64::MAX, |max| max.0.get());
        let Some(permit) = ConnectionPermit::take(&self.connections, &entry.name.0, max) else {
            let reason = format!("this access key already has its maximum of {max} connections");
            return Err(AdmissionRefusal::too_many(reason, RETRY_AFTER));
        };
        Ok(admitted.holding(permit))
    }
}

impl Admissions {
    fn keys(&self) -> Option<Arc<KeyFile>> {
        let keys = self.keys.as_ref()?;
        // Nothing panics while the lock is held.
        Some(Arc::clone(&keys.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Counts as one connection of a key until it is dropped.
struct ConnectionPermit {
    connections: Arc<Mutex<HashMap<String, u64>>>,
    key: String,
}

impl ConnectionPermit {
    fn take(connections: &Arc<Mutex<HashMap<String, u64>>>, key: &str, max: u64) -> Option<Self> {
        let mut counts = connections.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.to_owned()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Self { connections: Arc::clone(connections), key: key.to_owned() })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// The access rules, which follow changes of the key or account file.
pub(crate) struct AccessControl {
    pub admissions: Arc<Admissions>,
    watched: Option<Watched>,
    /// The limits of keys without limits of their own.
    common: KeyLimits,
    quota: Option<u64>,
    accounts: Option<AccountList>,
    /// Until when connections of revoked keys are searched.
    sweep_until: Option<SystemTime>,
}

impl AccessControl {
    /// Reads the files that the configuration names.
    pub(crate) fn load(config: &Config) -> Result<Self, Problems> {
        let (mut keys, mut accounts, mut watched, mut quota) = (None, None, None, None);
        match &config.access {
            AccessConfig::Open => {}
            AccessConfig::Keys(path) => {
                watched = Some(Watched::new(path, Content::Keys));
                keys = Some(RwLock::new(Arc::new(KeyFile::read(path)?)));
            }
            AccessConfig::Accounts { file, ids, quota: each } => {
                quota = *each;
                let mut all = ids.clone();
                if let Some(path) = file {
                    watched = Some(Watched::new(path, Content::Accounts(ids.clone())));
                    all.extend(read_accounts(path)?);
                }
                accounts = Some(AccountList::new(all));
            }
        }
        let admissions = Arc::new(Admissions {
            keys,
            sites: config.allowed_origins.clone(),
            connections: Arc::default(),
        });
        let common = config.limits.key;
        Ok(Self { admissions, watched, common, quota, accounts, sweep_until: None })
    }

    /// The accounts whose content the node stores.
    pub(crate) fn node_access(&self) -> Access {
        match &self.accounts {
            Some(accounts) => Access::Accounts { accounts: accounts.clone(), quota: self.quota },
            None => Access::Open,
        }
    }

    /// Sets the limits of all keys in the node.
    pub(crate) async fn apply_limits(&self, node: &SharedNode) {
        let keys = self.admissions.keys().unwrap_or_default();
        limit(node, &keys, self.common).await;
    }

    /// Watches the file and applies its changes. Each message of `reload` forces a look.
    pub(crate) async fn watch(
        mut self,
        node: SharedNode,
        reload: tokio::sync::watch::Receiver<()>,
    ) {
        let Some(watched) = self.watched.take() else { return };
        let mut poll = Poll::new(watched, "access file", reload);
        while let Some(read) = poll.next(Watched::look).await {
            if let Some(read) = read {
                self.apply(&node, read).await;
            }
            if self.sweep_until.is_some_and(|until| until < SystemTime::now()) {
                self.sweep_until = None;
            }
            if self.sweep_until.is_some() {
                self.sweep(&node).await;
            }
        }
    }

    async fn apply(&mut self, node: &SharedNode, read: Read) {
        match read {
            Read::Accounts(ids) => {
                info!(accounts = ids.len(), "reloaded the accounts");
                if let Some(accounts) = &self.accounts {
                    accounts.set(ids);
                }
            }
            Read::Keys(file) => {
                let Some(keys) = &self.admissions.keys else { return };
                info!(keys = file.entries.len(), "reloaded the keys");
                limit(node, &file, self.common).await;
                // Before the sweep, so that no client with a revoked key is admitted meanwhile.
                *keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
                self.sweep_until = SystemTime::now().checked_add(SWEEP_TIME);
            }
        }
    }

    /// Closes the connections of revoked keys.
    async fn sweep(&self, node: &SharedNode) {
        let Some(keys) = self.admissions.keys() else { return };
        let hashes: HashMap<String, KeyHash> =
            keys.entries.iter().map(|entry| (entry.name.0.clone(), entry.hash)).collect();
        let names: HashSet<String> = hashes.keys().cloned().collect();
        let is_revoked = move |peer: &PeerInfo| {
            let hash = peer.label.as_deref().and_then(|label| hashes.get(label));
            let key = peer.key.as_ref().map(ApiKey::expose).map(KeyHash::of);
            !matches!((hash, key), (Some(hash), Some(key)) if hash.matches(key))
        };
        let reason = CloseReason::new(CloseCode::PolicyViolation, "the access key was revoked");
        let node = node.read().await;
        let Some(node) = node.as_ref() else { return };
        // A revoked key may have returned through a connection that was just starting.
        node.forget_keys(|label| !names.contains(label));
        match node.disconnect(is_revoked, reason).await {
            Ok(0) | Err(_) => {}
            Ok(count) => info!(count, "closed the connections of revoked keys"),
        }
    }
}

/// Sets the limits of each key, and removes revoked keys.
async fn limit(node: &SharedNode, keys: &KeyFile, common: KeyLimits) {
    let node = node.read().await;
    let Some(node) = node.as_ref() else { return };
    node.forget_keys(|label| !keys.entries.iter().any(|entry| entry.name.0 == label));
    for entry in &keys.entries {
        node.limit_key(&entry.name.0, Some(entry.limits(common)));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;

    use downbeat_transport::RefusalKind;

    use super::*;
    use crate::config::Scalar;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn admissions(keys: Option<&str>, sites: &[&str]) -> Admissions {
        let keys = keys.map(|text| KeyFile::parse(Path::new("keys.toml"), text).unwrap());
        Admissions {
            keys: keys.map(|keys| RwLock::new(Arc::new(keys))),
            sites: sites.iter().map(|site| Site::parse(site).unwrap()).collect(),
            connections: Arc::default(),
        }
    }

    fn entry(name: &str, key: &str) -> String {
        format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"\n", KeyHash::of(key))
    }

    fn kind(result: Result<Admitted, AdmissionRefusal>) -> Option<RefusalKind> {
        result.err().map(|refusal| refusal.kind)
    }

    #[test]
    fn a_client_with_a_key_of_the_file_is_known_by_its_name() {
        let admissions = admissions(Some(&entry("app", "right")), &[]);
        let (right, wrong) = (ApiKey::new("right"), ApiKey::new("wrong"));
        let request = AdmissionRequest::new(HERE);
        let admitted = admissions.admit(&request.with_key(Some(&right))).unwrap();
        assert_eq!(admitted.label.as_deref(), Some("app"));
        assert_eq!(
            kind(admissions.admit(&request.with_key(Some(&wrong)))),
            Some(RefusalKind::Unauthorized)
        );
        assert_eq!(kind(admissions.admit(&request)), Some(RefusalKind::Unauthorized));
    }

    #[test]
    fn without_keys_a_key_is_not_looked_at() {
        let key = ApiKey::new("you@example.com");
        let admitted =
            admissions(None, &[]).admit(&AdmissionRequest::new(HERE).with_key(Some(&key)));
        assert!(admitted.unwrap().label.is_none());
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_programs_are_not() {
        let admissions = admissions(None, &["https://app.example.com"]);
        let request = AdmissionRequest::new(HERE);
        assert_eq!(kind(admissions.admit(&request)), None);
        assert_eq!(
            kind(admissions.admit(&request.with_origin(Some("https://app.example.com")))),
            None
        );
        for other in ["https://evil.example", "null", "http://app.example.com"] {
            let refused = kind(admissions.admit(&request.with_origin(Some(other))));
            assert_eq!(refused, Some(RefusalKind::Forbidden), "{other}");
        }
    }

    #[test]
    fn a_key_has_so_many_connections_until_one_ends() {
        let admissions = admissions(Some(&(entry("app", "k") + "max-connections = 2\n")), &[]);
        let key = ApiKey::new("k");
        let request = AdmissionRequest::new(HERE).with_key(Some(&key));
        let first = admissions.admit(&request).unwrap();
        let _second = admissions.admit(&request).unwrap();
        assert_eq!(kind(admissions.admit(&request)), Some(RefusalKind::TooMany));
        drop(first);
        let _third = admissions.admit(&request).unwrap();
    }
    #[test]
    fn connections_from_before_a_key_had_a_maximum_count() {
        let mut admissions = admissions(Some(&entry("app", "k")), &[]);
        let key = ApiKey::new("k");
        let request = AdmissionRequest::new(HERE).with_key(Some(&key));
        let first = admissions.admit(&request).unwrap();
        let text = entry("app", "k") + "max-connections = 1\n";
        let keys = KeyFile::parse(Path::new("keys.toml"), &text).unwrap();
        admissions.keys = Some(RwLock::new(Arc::new(keys)));
        assert_eq!(kind(admissions.admit(&request)), Some(RefusalKind::TooMany));
        drop(first);
        let _second = admissions.admit(&request).unwrap();
    }
}

//! Who may use the server: keys, sites and accounts, and what happens when their files change.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use downbeat_node::{Access, AccountList, KeyLimits};
use downbeat_transport::{
    Admission, AdmissionRequest, Admitted, ApiKey, CloseCode, CloseReason, PeerInfo, Refusal,
};
use tracing::{error, info};

use crate::admin::SharedNode;
use crate::config::{AccessConfig, Config, Problems, Site};
use crate::keys::{KeyFile, KeyHash};
use crate::watched::{Content, Read, Watched, read_accounts};

/// How often files are looked at. Asking for their times costs next to nothing, and works on every
/// file system; notifications do not.
const POLL_PERIOD: Duration = Duration::from_secs(1);
/// For how long after a change of the keys connections are looked through. One that was admitted
/// just before may not be the node's yet: its handshake ends within ten seconds.
const SWEEP_TIME: Duration = Duration::from_secs(15);
/// When a client that has as many connections as its key may have should come again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Judges who may connect.
pub(crate) struct Doorkeeper {
    /// `None` where no key is needed.
    keys: Option<RwLock<Arc<KeyFile>>>,
    sites: Vec<Site>,
    connections: Arc<Mutex<HashMap<String, u64>>>,
}

impl Admission for Doorkeeper {
    fn admit(&self, request: &AdmissionRequest<'_>) -> Result<Admitted, Refusal> {
        if let Some(origin) = request.origin
            && !self.sites.is_empty()
            && !self.sites.iter().any(|site| site.has(origin))
        {
            return Err(Refusal::forbidden("pages of this site may not connect here"));
        }
        let Some(keys) = self.keys() else { return Ok(Admitted::anonymous()) };
        let Some(key) = request.key else {
            return Err(Refusal::unauthorized("a key is needed: add ?key=KEY to the URL"));
        };
        let Some(entry) = keys.find(key.expose()) else {
            return Err(Refusal::unauthorized("this key is not known here"));
        };
        let admitted = Admitted::labelled(entry.name.0.as_str());
        // Counted without a maximum too: the key may be given one while they last.
        let max = entry.max_connections.map_or(u64::MAX, |max| max.0.get());
        let Some(place) = KeyPlace::take(&self.connections, &entry.name.0, max) else {
            let reason = format!("this key has {max} connections already");
            return Err(Refusal::too_many(reason, RETRY_AFTER));
        };
        Ok(admitted.holding(place))
    }
}

impl Doorkeeper {
    fn keys(&self) -> Option<Arc<KeyFile>> {
        let keys = self.keys.as_ref()?;
        // Nothing panics while the lock is held.
        Some(Arc::clone(&keys.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// One of the connections that a key may have; given back when dropped.
struct KeyPlace {
    connections: Arc<Mutex<HashMap<String, u64>>>,
    key: String,
}

impl KeyPlace {
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

impl Drop for KeyPlace {
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

/// Keys and accounts as their files have them, and what is to be done when they change.
pub(crate) struct AccessControl {
    pub door: Arc<Doorkeeper>,
    watched: Option<Watched>,
    /// The limits of keys that have none of their own.
    common: KeyLimits,
    quota: Option<u64>,
    accounts: Option<AccountList>,
    /// Until when connections are looked through for keys that are not there any more.
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
        let door = Arc::new(Doorkeeper {
            keys,
            sites: config.allowed_origins.clone(),
            connections: Arc::default(),
        });
        let common = config.limits.key;
        Ok(Self { door, watched, common, quota, accounts, sweep_until: None })
    }

    /// What the node is to store.
    pub(crate) fn of_node(&self) -> Access {
        match &self.accounts {
            Some(accounts) => Access::Accounts { accounts: accounts.clone(), quota: self.quota },
            None => Access::Open,
        }
    }

    /// Tells the node which keys there are, with their limits.
    pub(crate) async fn apply_limits(&self, node: &SharedNode) {
        let keys = self.door.keys().unwrap_or_default();
        limit(node, &keys, self.common).await;
    }

    /// Looks at the files again and again, and at once when told to.
    pub(crate) async fn watch(
        mut self,
        node: SharedNode,
        mut now: tokio::sync::watch::Receiver<()>,
    ) {
        let mut ticks = tokio::time::interval(POLL_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let forced = tokio::select! {
                _ = ticks.tick() => false,
                changed = now.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
            };
            self.look(&node, forced).await;
        }
    }

    async fn look(&mut self, node: &SharedNode, forced: bool) {
        if let Some(mut watched) = self.watched.take() {
            // Reading may take long where the file is on a network.
            let looking = tokio::task::spawn_blocking(move || {
                let read = watched.look(forced);
                (watched, read)
            });
            match looking.await {
                Ok((watched, read)) => {
                    self.watched = Some(watched);
                    if let Some(read) = read {
                        self.apply(node, read).await;
                    }
                }
                Err(error) => error!(%error, "the access file is not looked at any more"),
            }
        }
        if self.sweep_until.is_some_and(|until| until < SystemTime::now()) {
            self.sweep_until = None;
        }
        if self.sweep_until.is_some() {
            self.sweep(node).await;
        }
    }

    async fn apply(&mut self, node: &SharedNode, read: Read) {
        match read {
            Read::Accounts(ids) => {
                info!(accounts = ids.len(), "the accounts have been read again");
                if let Some(accounts) = &self.accounts {
                    accounts.set(ids);
                }
            }
            Read::Keys(file) => {
                let Some(keys) = &self.door.keys else { return };
                info!(keys = file.entries.len(), "the keys have been read again");
                limit(node, &file, self.common).await;
                // First, so that nobody comes in while the others are sent away.
                *keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
                self.sweep_until = SystemTime::now().checked_add(SWEEP_TIME);
            }
        }
    }

    /// Ends connections whose key is not in the file any more.
    async fn sweep(&self, node: &SharedNode) {
        let Some(keys) = self.door.keys() else { return };
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
        // One of them may have come back while its connection began.
        node.forget_keys(|label| !names.contains(label));
        match node.disconnect(is_revoked, reason).await {
            Ok(0) | Err(_) => {}
            Ok(count) => info!(count, "connections of revoked keys have been closed"),
        }
    }
}

/// Gives each key its limits, and forgets the keys that are gone.
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

    fn door(keys: Option<&str>, sites: &[&str]) -> Doorkeeper {
        let keys = keys.map(|text| KeyFile::parse(Path::new("keys.toml"), text).unwrap());
        Doorkeeper {
            keys: keys.map(|keys| RwLock::new(Arc::new(keys))),
            sites: sites.iter().map(|site| Site::parse(site).unwrap()).collect(),
            connections: Arc::default(),
        }
    }

    fn entry(name: &str, key: &str) -> String {
        format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"\n", KeyHash::of(key))
    }

    fn kind(result: Result<Admitted, Refusal>) -> Option<RefusalKind> {
        result.err().map(|refusal| refusal.kind)
    }

    #[test]
    fn who_brings_a_key_of_the_file_is_known_by_its_name() {
        let door = door(Some(&entry("app", "right")), &[]);
        let (right, wrong) = (ApiKey::new("right"), ApiKey::new("wrong"));
        let request = AdmissionRequest::new(HERE);
        let admitted = door.admit(&request.with_key(Some(&right))).unwrap();
        assert_eq!(admitted.label.as_deref(), Some("app"));
        assert_eq!(
            kind(door.admit(&request.with_key(Some(&wrong)))),
            Some(RefusalKind::Unauthorized)
        );
        assert_eq!(kind(door.admit(&request)), Some(RefusalKind::Unauthorized));
    }

    #[test]
    fn without_keys_a_key_is_not_looked_at() {
        let key = ApiKey::new("you@example.com");
        let admitted = door(None, &[]).admit(&AdmissionRequest::new(HERE).with_key(Some(&key)));
        assert!(admitted.unwrap().label.is_none());
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_programs_are_not() {
        let door = door(None, &["https://app.example.com"]);
        let request = AdmissionRequest::new(HERE);
        assert_eq!(kind(door.admit(&request)), None);
        assert_eq!(kind(door.admit(&request.with_origin(Some("https://app.example.com")))), None);
        for other in ["https://evil.example", "null", "http://app.example.com"] {
            let refused = kind(door.admit(&request.with_origin(Some(other))));
            assert_eq!(refused, Some(RefusalKind::Forbidden), "{other}");
        }
    }

    #[test]
    fn a_key_has_so_many_connections_until_one_ends() {
        let door = door(Some(&(entry("app", "k") + "max-connections = 2\n")), &[]);
        let key = ApiKey::new("k");
        let request = AdmissionRequest::new(HERE).with_key(Some(&key));
        let first = door.admit(&request).unwrap();
        let _second = door.admit(&request).unwrap();
        assert_eq!(kind(door.admit(&request)), Some(RefusalKind::TooMany));
        drop(first);
        let _third = door.admit(&request).unwrap();
    }
    #[test]
    fn connections_from_before_a_key_had_a_maximum_count() {
        let mut door = door(Some(&entry("app", "k")), &[]);
        let key = ApiKey::new("k");
        let request = AdmissionRequest::new(HERE).with_key(Some(&key));
        let first = door.admit(&request).unwrap();
        let text = entry("app", "k") + "max-connections = 1\n";
        let keys = KeyFile::parse(Path::new("keys.toml"), &text).unwrap();
        door.keys = Some(RwLock::new(Arc::new(keys)));
        assert_eq!(kind(door.admit(&request)), Some(RefusalKind::TooMany));
        drop(first);
        let _second = door.admit(&request).unwrap();
    }
}

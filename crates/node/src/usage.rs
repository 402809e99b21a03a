//! What is stored for access keys and accounts, and the rates that connections with the same key
//! share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as StdInstant};

use downbeat_protocol::{CoValueId, SessionContent};
use downbeat_sync::StoreJob;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{error, info};

use crate::access::{Access, account_of};
use crate::limits::{Buckets, KeyLimits, TooLong};
use crate::lock::lock;
use crate::stats::{AccountStats, KeyStats};
use crate::trouble::{Report, Trouble};

/// How often the counts are written to their file. What a crash can make them forget.
const SAVE_PERIOD: Duration = Duration::from_secs(10);

/// The largest file that is read: a hundred thousand keys and accounts, many times over.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The counts of all keys and accounts.
pub(crate) struct Usage {
    /// Bounded by the labels that connections are admitted with.
    keys: Mutex<BTreeMap<Arc<str>, Arc<Key>>>,
    /// Bounded by the accounts that may store anything.
    accounts: Mutex<BTreeMap<CoValueId, u64>>,
    access: Access,
    default: KeyLimits,
    file: Option<PathBuf>,
    changed: AtomicBool,
    saving: Trouble,
    /// Held while the file is written. A save goes on when its caller has gone, as at the end of
    /// the node, which saves once more.
    writing: Mutex<()>,
}

/// An access key.
pub(crate) struct Key {
    label: Arc<str>,
    stored: AtomicU64,
    /// Whether it is a part of the statistics. The stored bytes of other keys are only kept, for
    /// the case that a key of the same name comes back.
    shown: AtomicBool,
    own: Mutex<Own>,
}

struct Own {
    limits: KeyLimits,
    buckets: Buckets,
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
struct Saved {
    /// Bytes by the key's name.
    keys: BTreeMap<String, u64>,
    /// Bytes by the account's id.
    accounts: BTreeMap<String, u64>,
}

impl Usage {
    /// Begins with what the file says, if there is one.
    pub(crate) fn open(
        access: Access,
        default: KeyLimits,
        file: Option<PathBuf>,
    ) -> io::Result<Self> {
        let saved = match &file {
            Some(path) => read(path)?,
            None => Saved::default(),
        };
        let keys = saved.keys.into_iter().map(|(label, stored)| {
            let label: Arc<str> = label.into();
            (Arc::clone(&label), Arc::new(Key::new(label, stored, default)))
        });
        let accounts = saved.accounts.into_iter();
        let accounts =
            accounts.filter_map(|(id, bytes)| Some((CoValueId::parse(&id).ok()?, bytes)));
        Ok(Self {
            keys: Mutex::new(keys.collect()),
            accounts: Mutex::new(accounts.collect()),
            access,
            default,
            file,
            changed: AtomicBool::new(false),
            saving: Trouble::default(),
            writing: Mutex::default(),
        })
    }

    /// The key of this name.
    pub(crate) fn key(&self, label: &Arc<str>) -> Arc<Key> {
        let mut keys = lock(&self.keys);
        let key = keys
            .entry(Arc::clone(label))
            .or_insert_with(|| Arc::new(Key::new(Arc::clone(label), 0, self.default)));
        key.shown.store(true, Ordering::Relaxed);
        Arc::clone(key)
    }

    /// Limits of a key of its own, or those of all keys again.
    pub(crate) fn limit(&self, label: &Arc<str>, limits: Option<KeyLimits>) {
        self.key(label).limit(limits.unwrap_or(self.default));
    }

    /// Leaves keys out of the statistics until a client comes with one of them, and gives them the
    /// limits of all keys. What is stored for them still counts.
    pub(crate) fn forget(&self, is_gone: impl Fn(&str) -> bool) {
        let keys = lock(&self.keys);
        for key in keys.values().filter(|key| is_gone(&key.label)) {
            key.shown.store(false, Ordering::Relaxed);
            key.limit(self.default);
        }
    }

    /// Counts what is about to be stored. A header counts for the account that begins the CoValue,
    /// or else for the one that is behind the connection.
    pub(crate) fn charge(&self, job: &StoreJob, key: Option<&Key>, behind: Option<CoValueId>) {
        let bytes: u64 = job.sessions.iter().map(SessionContent::json_len).sum();
        let header = job.header.as_ref().map_or(0, |header| header.json().len() as u64);
        if let Some(key) = key {
            key.stored.fetch_add(bytes + header, Ordering::Relaxed);
            self.changed.store(true, Ordering::Relaxed);
        }
        let Access::Accounts { accounts: listed, .. } = &self.access else { return };
        let listed = listed.snapshot();
        let runs = job.sessions.iter().map(|run| (account_of(run.session.owner()), run));
        let runs: Vec<_> = runs.filter(|(account, _)| listed.contains(account)).collect();
        let of_header = runs.first().map(|(account, _)| *account).or(behind);
        let charges = runs.iter().map(|(account, run)| (*account, run.json_len()));
        for (account, bytes) in charges.chain(of_header.map(|account| (account, header))) {
            if bytes > 0 {
                *lock(&self.accounts).entry(account).or_default() += bytes;
                self.changed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Bytes of headers and transactions that are stored of an account.
    pub(crate) fn of_account(&self, account: CoValueId) -> u64 {
        lock(&self.accounts).get(&account).copied().unwrap_or_default()
    }

    /// The keys in use, with as many connections as the caller says.
    pub(crate) fn key_stats(&self, connections: &BTreeMap<Arc<str>, u64>) -> Vec<KeyStats> {
        let keys = lock(&self.keys);
        let shown = keys.values().filter(|key| key.shown.load(Ordering::Relaxed));
        let stats = shown.map(|key| KeyStats {
            label: Arc::clone(&key.label),
            connections: connections.get(&key.label).copied().unwrap_or_default(),
            stored_bytes: key.stored.load(Ordering::Relaxed),
        });
        stats.collect()
    }

    /// All accounts.
    pub(crate) fn account_stats(&self) -> Vec<AccountStats> {
        let accounts = lock(&self.accounts);
        let stats = accounts
            .iter()
            .map(|(account, bytes)| AccountStats { account: *account, stored_bytes: *bytes });
        stats.collect()
    }

    /// Writes the counts to their file now and then, for ever.
    pub(crate) async fn keep_saving(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SAVE_PERIOD).await;
            self.save().await;
        }
    }

    /// Writes the counts to their file, if there is one and they have changed. Afterwards the file
    /// is no older than this call, even if another call has written it.
    pub(crate) async fn save(self: &Arc<Self>) {
        if self.file.is_none() {
            return;
        }
        let usage = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || usage.write_changes()).await;
        match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) if self.saving.ended(StdInstant::now()).is_some() => {
                info!("the stored bytes of keys and accounts are saved again");
            }
            Ok(()) => {}
            Err(error) => {
                if let Some(Report { lasting, failures }) = self.saving.failed(StdInstant::now()) {
                    error!(
                        %error, ?lasting, failures,
                        "the stored bytes of keys and accounts cannot be saved; it is tried again"
                    );
                }
            }
        }
    }

    fn write_changes(&self) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let _writing = lock(&self.writing);
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let written = write(path, &self.saved());
        if written.is_err() {
            self.changed.store(true, Ordering::Relaxed);
        }
        written
    }

    fn saved(&self) -> Saved {
        let keys = lock(&self.keys);
        let stored = |key: &Arc<Key>| key.stored.load(Ordering::Relaxed);
        let accounts = lock(&self.accounts);
        Saved {
            keys: keys.values().map(|key| (key.label.to_string(), stored(key))).collect(),
            accounts: accounts.iter().map(|(id, bytes)| (id.to_string(), *bytes)).collect(),
        }
    }
}

impl Key {
    fn new(label: Arc<str>, stored: u64, limits: KeyLimits) -> Self {
        let buckets = Buckets::new(limits.rates, Instant::now());
        let own = Mutex::new(Own { limits, buckets });
        Self { label, stored: AtomicU64::new(stored), shown: AtomicBool::new(true), own }
    }

    fn limit(&self, limits: KeyLimits) {
        let mut own = lock(&self.own);
        own.limits = limits;
        own.buckets.set(limits.rates);
    }

    /// The key's name.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Whether this much more is more than may be stored for the key.
    pub(crate) fn is_over_quota(&self, bytes: u64) -> bool {
        let quota = lock(&self.own).limits.stored_bytes;
        let stored = self.stored.load(Ordering::Relaxed);
        quota.is_some_and(|quota| stored.saturating_add(bytes) > quota)
    }

    /// Takes what has come from the key's rates, and tells how long to wait, if that is not longer
    /// than this.
    pub(crate) fn take(
        &self,
        messages: u64,
        bytes: u64,
        longest: Duration,
        now: Instant,
    ) -> Result<Duration, TooLong> {
        lock(&self.own).buckets.take(messages, bytes, longest, now)
    }
}

fn read(path: &Path) -> io::Result<Saved> {
    match std::fs::metadata(path) {
        Ok(about) if about.len() > MAX_FILE_BYTES => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(error),
    }
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Replaces the file as a whole, so that a crash leaves the old one or the new one.
fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = BufWriter::new(File::create(&new)?);
    serde_json::to_writer(&mut file, saved)?;
    file.into_inner()?.sync_all()?;
    std::fs::rename(new, path)?;
    // The file's name has to be as durable as its content. Only Unix lets a program sync it.
    if cfg!(unix) { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
}

/// The folder that a file is in: of a mere name, the one that the program runs in.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(file: &Path) -> Arc<Usage> {
        let default = KeyLimits { stored_bytes: Some(100), ..KeyLimits::default() };
        Arc::new(Usage::open(Access::Open, default, Some(file.to_owned())).unwrap())
    }

    #[tokio::test]
    async fn counts_are_there_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usage.json");
        let label: Arc<str> = "a \"key\"\n".into();
        let before = usage(&file);
        let key = before.key(&label);
        key.stored.store(90, Ordering::Relaxed);
        before.changed.store(true, Ordering::Relaxed);
        lock(&before.accounts).insert(CoValueId::parse("co_z1").unwrap(), 7);
        before.save().await;

        let after = usage(&file);
        let key = after.key(&label);
        assert!(key.is_over_quota(11) && !key.is_over_quota(10));
        assert_eq!(after.of_account(CoValueId::parse("co_z1").unwrap()), 7);
    }

    #[tokio::test]
    async fn a_save_whose_caller_has_gone_is_done_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usage.json");
        let usage = usage(&file);
        // Enough to take a while.
        for number in 0..20_000 {
            let label: Arc<str> = format!("key {number}").into();
            usage.key(&label);
        }
        let key = usage.key(&"key 7".into());
        for stored in 1..=10 {
            key.stored.store(stored, Ordering::Relaxed);
            usage.changed.store(true, Ordering::Relaxed);
            let saving = Arc::clone(&usage);
            let saving = tokio::spawn(async move { saving.save().await });
            tokio::task::yield_now().await;
            saving.abort();
            usage.save().await;
            assert_eq!(read(&file).unwrap().keys["key 7"], stored);
        }
    }

    #[test]
    fn a_file_without_a_folder_is_in_the_current_one() {
        assert_eq!(folder_of(Path::new("usage.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("data/usage.json")), Path::new("data"));
    }

    #[test]
    fn a_file_that_is_none_is_an_error_and_not_a_new_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("usage.json");
        std::fs::write(&file, "{").unwrap();
        assert!(Usage::open(Access::Open, KeyLimits::default(), Some(file)).is_err());
    }

    #[test]
    fn a_key_has_limits_of_its_own_until_they_are_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let usage = usage(&dir.path().join("usage.json"));
        let label: Arc<str> = "key".into();
        let own = KeyLimits { stored_bytes: Some(10), ..KeyLimits::default() };
        usage.limit(&label, Some(own));
        assert!(usage.key(&label).is_over_quota(11));
        usage.limit(&label, None);
        assert!(!usage.key(&label).is_over_quota(11));
    }
}

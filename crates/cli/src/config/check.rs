//! From settings that are right by themselves to a configuration that is right as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::origin::{Origin, Problems};
use super::settings::{Setting, Settings};
use super::value::{LogFormat, Site, UpstreamUrl};
use crate::storage::{DurabilityChoice, StorageChoice};

/// What the server is to do.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub address: SocketAddr,
    pub tls: Option<TlsFiles>,
    pub allowed_origins: Vec<Site>,
    pub storage: StorageChoice,
    pub durability: DurabilityChoice,
    pub upstreams: Vec<UpstreamUrl>,
    pub upstreams_per_co_value: Option<usize>,
    pub full_storage_reconciliation: bool,
    pub log_format: LogFormat,
    pub log: String,
}

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Config {
    pub(crate) fn of(settings: &Settings) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let storage = storage(settings, &mut problems);
        let tls = tls(settings, &mut problems);
        upstreams(settings, &mut problems);
        let config = Self {
            address: SocketAddr::new(settings.host.value.0, settings.port.value),
            tls,
            allowed_origins: settings.allowed_origin.value.clone(),
            storage,
            durability: settings.durability.value,
            upstreams: settings.upstream.value.clone(),
            upstreams_per_co_value: settings
                .upstreams_per_covalue
                .value
                .map(super::value::Count::as_usize),
            full_storage_reconciliation: settings.full_storage_reconciliation.value,
            log_format: settings.log_format.value,
            log: settings.log.value.0.clone(),
        };
        problems.or(config)
    }
}

/// `storage`, `in-memory` and `db` say the same thing in three ways: the one that was written in
/// the place that counts most is meant, and two in places that count as much contradict.
fn storage(settings: &Settings, problems: &mut Problems) -> StorageChoice {
    let mut written = vec![("storage", settings.storage.value.clone(), &settings.storage.origin)];
    if settings.in_memory.value {
        written.push(("in-memory", StorageChoice::Memory, &settings.in_memory.origin));
    }
    let rank = written.iter().map(|(_, _, origin)| origin.rank()).max().unwrap_or_default();
    written.retain(|(_, _, origin)| origin.rank() == rank);
    if let [(first, _, first_origin), (second, _, second_origin), ..] = written.as_slice() {
        problems.add(
            second_origin,
            format_args!(
                "`{second}` contradicts `{first}` ({first_origin}): write one of the two"
            ),
        );
    }
    written.pop().map_or(StorageChoice::Memory, |(_, storage, _)| storage)
}

fn tls(settings: &Settings, problems: &mut Problems) -> Option<TlsFiles> {
    let Settings { tls_cert, tls_key, .. } = settings;
    match (&tls_cert.value, &tls_key.value) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        (Some(_), None) => {
            problems.add(&tls_cert.origin, "`tls-cert` needs `tls-key`: the certificate's key");
            None
        }
        (None, Some(_)) => {
            problems.add(&tls_key.origin, "`tls-key` needs `tls-cert`: the key's certificate");
            None
        }
    }
}

fn upstreams(settings: &Settings, problems: &mut Problems) {
    if !settings.upstream.value.is_empty() {
        return;
    }
    let needs = |name, origin: &Origin, problems: &mut Problems| {
        problems.add(origin, format_args!("`{name}` needs `upstream`: a server to sync with"));
    };
    if settings.upstreams_per_covalue.value.is_some() {
        needs("upstreams-per-covalue", &settings.upstreams_per_covalue.origin, problems);
    }
    if settings.full_storage_reconciliation.value {
        needs("full-storage-reconciliation", &settings.full_storage_reconciliation.origin, problems);
    }
}

//! Checks that settings fit together, and derives the configuration of the server.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use downbeat_node::{KeyLimits, NodeLimits, Rates};
use downbeat_protocol::CoValueId;
use downbeat_sync::cost::CHAIN_BYTES;
use downbeat_transport::net::{ConnectionLimits, TrustedProxies};
use downbeat_transport::tls::ClientTls;

use super::origin::{Origin, Problems};
use super::settings::Settings;
use super::value::{AccessMode, Count, LogFormat, Site, Size, UpstreamUrl};
use crate::storage::{DurabilityChoice, StorageChoice, StorageFormat};

/// The configuration of the server.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub address: SocketAddr,
    /// Where other servers connect over TCP.
    pub tcp: Option<SocketAddr>,
    pub tls: Option<TlsFiles>,
    pub access: AccessConfig,
    pub allowed_origins: Vec<Site>,
    pub proxies: TrustedProxies,
    /// Whether there is a trusted proxy.
    pub behind_proxy: bool,
    pub connections: ConnectionLimits,
    pub max_message_bytes: usize,
    pub limits: NodeLimits,
    pub storage: StorageChoice,
    /// The format that a SQLite file must have. `None` if it is not set.
    pub storage_format: Option<StorageFormat>,
    pub durability: DurabilityChoice,
    pub memory: MemoryPlan,
    pub upstreams: Vec<UpstreamUrl>,
    pub upstream_authorities: Option<PathBuf>,
    pub upstreams_per_co_value: Option<usize>,
    pub full_storage_reconciliation: bool,
    pub admin: Option<SocketAddr>,
    pub admin_names: Vec<String>,
    pub drain_time: Duration,
    pub log_format: LogFormat,
    pub log: String,
}

/// Who may use the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessConfig {
    /// Every client.
    Open,
    /// Clients with a key from this file.
    Keys(PathBuf),
    /// Every client may connect, but only content of these accounts is stored.
    Accounts {
        file: Option<PathBuf>,
        ids: Vec<CoValueId>,
        /// The storage quota of each account, in bytes.
        quota: Option<u64>,
    },
}

/// How the memory budget is divided. Two more shares are in the limits of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Bytes of the index: headers and counts of CoValues.
    pub index: u64,
    /// CoValues in the index. Their real size is usually reached before.
    pub warm_co_values: usize,
    /// Bytes that all peers together keep: subscriptions, claims, held content.
    pub peers: u64,
    /// Hash chains that stay in memory.
    pub warm_chains: usize,
    /// Bytes of cached content.
    pub content_cache: u64,
    /// Bytes of the store's own cache.
    pub storage_cache: u64,
    /// Bytes of messages that have arrived in part.
    pub receiving: u64,
}

/// Bytes of the smallest CoValue in the index.
const MIN_CO_VALUE_BYTES: u64 = 512;
/// The smallest budget. Below it, the caches would be too small to help.
const MIN_MEMORY: u64 = 64 << 20;

/// The files of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Config {
    pub(crate) fn of(settings: &Settings) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let (storage, storage_format) = storage(settings, &mut problems);
        let tls = tls(settings, &mut problems);
        let access = access(settings, &mut problems);
        let proxies = proxies(settings, &mut problems);
        upstreams(settings, &mut problems);
        let memory = memory(settings, &mut problems);
        let config = Self {
            address: SocketAddr::new(settings.host.value.0, settings.port.value),
            tcp: tcp(settings, &mut problems),
            tls,
            access,
            allowed_origins: settings.allowed_origin.value.clone(),
            proxies,
            behind_proxy: !settings.trusted_proxy.value.is_empty(),
            connections: ConnectionLimits {
                total: settings.max_connections.value.as_usize(),
                per_address: settings.max_connections_per_address.value.as_usize(),
                ..ConnectionLimits::default()
            },
            max_message_bytes: settings.max_message_size.value.as_usize(),
            limits: limits(settings),
            storage,
            storage_format,
            durability: settings.durability.value,
            memory,
            upstreams: settings.upstream.value.clone(),
            upstream_authorities: settings.upstream_ca.value.clone(),
            upstreams_per_co_value: settings
                .upstreams_per_covalue
                .value
                .map(super::value::Count::as_usize),
            full_storage_reconciliation: settings.full_storage_reconciliation.value,
            admin: admin(settings, &mut problems),
            admin_names: settings
                .admin_allowed_host
                .value
                .iter()
                .map(|name| name.0.clone())
                .collect(),
            drain_time: settings.drain_time.value.0,
            log_format: settings.log_format.value,
            log: settings.log.value.0.clone(),
        };
        problems.or(config)
    }
}

/// `storage`, `in-memory` and `db` set the same thing. If several are set, flags win over
/// variables, and variables over the file. Two of the same rank are an error.
///
/// Also returns `storage-format`, unless it has its default value.
fn storage(settings: &Settings, problems: &mut Problems) -> (StorageChoice, Option<StorageFormat>) {
    let mut written = vec![("storage", settings.storage.value.clone(), &settings.storage.origin)];
    if settings.in_memory.value {
        written.push(("in-memory", StorageChoice::Memory, &settings.in_memory.origin));
    }
    if let Some(file) = &settings.db.value {
        written.push(("db", StorageChoice::Sqlite(file.clone()), &settings.db.origin));
    }
    let rank = written.iter().map(|(_, _, origin)| origin.rank()).max().unwrap_or_default();
    written.retain(|(_, _, origin)| origin.rank() == rank);
    if let [(first, _, first_origin), (second, _, second_origin), ..] = written.as_slice() {
        problems.add(
            second_origin,
            format_args!("`{second}` contradicts `{first}` ({first_origin}): use one of the two"),
        );
    }
    let Some((name, storage, origin)) = written.pop() else {
        return (StorageChoice::Memory, None);
    };
    let format = storage_format(settings, (name, &storage, origin), problems);
    (storage, format)
}

/// `storage-format`, unless it has its default value. `written` is the setting that names the
/// storage.
fn storage_format(
    settings: &Settings,
    written: (&str, &StorageChoice, &Origin),
    problems: &mut Problems,
) -> Option<StorageFormat> {
    let Settings { storage_format: format, .. } = settings;
    let (name, storage, origin) = written;
    if format.origin == Origin::Default {
        return None;
    }
    if matches!(storage, StorageChoice::Sqlite(_) | StorageChoice::DataDir(_)) {
        return Some(format.value);
    }
    // A storage of a higher rank replaces the one that the format was written for.
    if format.origin.rank() >= origin.rank() {
        problems.add(
            &format.origin,
            format_args!(
                "`storage-format` is for SQLite files, but `{name}` ({origin}) \
                 sets the storage to {storage}"
            ),
        );
    }
    None
}

fn memory(settings: &Settings, problems: &mut Problems) -> MemoryPlan {
    if settings.memory_budget.value.0 < MIN_MEMORY {
        problems.add(&settings.memory_budget.origin, "`memory-budget` must be 64MiB or more");
    }
    let number = |bytes: u64, each: u64| usize::try_from(bytes / each).unwrap_or(usize::MAX);
    let share = |parts| memory_share(settings, parts);
    MemoryPlan {
        index: share(6),
        warm_co_values: number(share(6), MIN_CO_VALUE_BYTES),
        peers: share(10),
        warm_chains: number(share(1), CHAIN_BYTES),
        content_cache: share(2),
        storage_cache: share(3),
        receiving: share(4),
    }
}

/// Parts of the memory budget, which has 32 of them. `docs/operations.md` lists all.
fn memory_share(settings: &Settings, parts: u64) -> u64 {
    settings.memory_budget.value.0 / 32 * parts
}

fn tls(settings: &Settings, problems: &mut Problems) -> Option<TlsFiles> {
    let Settings { tls_cert, tls_key, .. } = settings;
    match (&tls_cert.value, &tls_key.value) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        (Some(_), None) => {
            problems.add(
                &tls_cert.origin,
                "`tls-cert` needs `tls-key`, the private key of the certificate",
            );
            None
        }
        (None, Some(_)) => {
            problems.add(&tls_key.origin, "`tls-key` needs `tls-cert`, the certificate of the key");
            None
        }
    }
}

fn tcp(settings: &Settings, problems: &mut Problems) -> Option<SocketAddr> {
    let Settings { host, port, tcp_port, admin_port, .. } = settings;
    let number = tcp_port.value?;
    if number != 0 && number == port.value {
        problems.add(
            &tcp_port.origin,
            "`tcp-port` is the port for WebSockets: write another one, like 4202",
        );
    }
    if number != 0 && Some(number) == admin_port.value {
        problems
            .add(&tcp_port.origin, "`tcp-port` is the admin port: write another one, like 4202");
    }
    Some(SocketAddr::new(host.value.0, number))
}

fn access(settings: &Settings, problems: &mut Problems) -> AccessConfig {
    let Settings { access, keys, accounts, account, .. } = settings;
    // Unused values in files and variables are fine. An unused flag is probably a mistake.
    let unused = |name: &str, origin: &Origin, mode: &str, problems: &mut Problems| {
        if matches!(origin, Origin::Flag(_)) {
            let text = format!("`{name}` has no effect without `--access {mode}`");
            problems.add(origin, text);
        }
    };
    if access.value != AccessMode::Keys && keys.value.is_some() {
        unused("keys", &keys.origin, "keys", problems);
    }
    if access.value != AccessMode::Accounts {
        if accounts.value.is_some() {
            unused("accounts", &accounts.origin, "accounts", problems);
        }
        if !account.value.is_empty() {
            unused("account", &account.origin, "accounts", problems);
        }
    }
    match access.value {
        AccessMode::Open => AccessConfig::Open,
        AccessMode::Keys => {
            if keys.value.is_none() {
                problems.add(
                    &access.origin,
                    "`access = keys` needs `keys`: a key file; \
                    `downbeat key add NAME --keys FILE` creates one",
                );
            }
            AccessConfig::Keys(keys.value.clone().unwrap_or_default())
        }
        AccessMode::Accounts => {
            if accounts.value.is_none() && account.value.is_empty() {
                problems.add(
                    &access.origin,
                    "`access = accounts` needs `accounts`, a file with one \
                    account id per line, or `account`",
                );
            }
            AccessConfig::Accounts {
                file: accounts.value.clone(),
                ids: account.value.clone(),
                quota: settings.max_stored_per_account.value.map(|size| size.0),
            }
        }
    }
}

fn proxies(settings: &Settings, problems: &mut Problems) -> TrustedProxies {
    let Settings { trusted_proxy, proxy_header, .. } = settings;
    if trusted_proxy.value.is_empty() && proxy_header.origin != Origin::Default {
        problems.add(
            &proxy_header.origin,
            "`proxy-header` needs `trusted-proxy`, the proxy that sends the header",
        );
    }
    let mut proxies = TrustedProxies::new(trusted_proxy.value.iter().copied());
    proxies.header = proxy_header.value;
    proxies
}

fn limits(settings: &Settings) -> NodeLimits {
    NodeLimits {
        connection: Rates {
            messages: rate(settings.messages_per_second.value),
            bytes: byte_rate(settings.bytes_per_second.value),
        },
        address: Rates {
            messages: rate(settings.address_messages_per_second.value),
            bytes: byte_rate(settings.address_bytes_per_second.value),
        },
        key: KeyLimits {
            rates: Rates {
                messages: rate(settings.key_messages_per_second.value),
                bytes: byte_rate(settings.key_bytes_per_second.value),
            },
            stored_bytes: settings.max_stored_per_key.value.map(|size| size.0),
        },
        subscriptions: settings.max_subscriptions.value.as_usize(),
        patience: settings.rate_patience.value.0,
        credit_bytes: memory_share(settings, 4),
        output_bytes: memory_share(settings, 2),
        ..NodeLimits::default()
    }
}

/// A rate, as the node takes it.
pub(crate) fn rate(count: Option<Count>) -> Option<NonZeroU64> {
    count.map(|count| count.0)
}

/// A byte rate, as the node takes it.
pub(crate) fn byte_rate(size: Option<Size>) -> Option<NonZeroU64> {
    size.and_then(|size| NonZeroU64::new(size.0))
}

fn admin(settings: &Settings, problems: &mut Problems) -> Option<SocketAddr> {
    let Settings { admin_host, admin_port, admin_allowed_host, .. } = settings;
    if admin_port.value.is_none() && admin_host.origin != Origin::Default {
        problems.add(&admin_host.origin, "`admin-host` needs `admin-port`, the port to listen on");
    }
    if admin_port.value.is_none() && !admin_allowed_host.value.is_empty() {
        problems.add(
            &admin_allowed_host.origin,
            "`admin-allowed-host` needs `admin-port`, the port to listen on",
        );
    }
    let port = admin_port.value?;
    if port != 0 && port == settings.port.value {
        problems.add(
            &admin_port.origin,
            "`admin-port` is also the public port: use another one, like 4201",
        );
    }
    Some(SocketAddr::new(admin_host.value.0, port))
}

fn upstreams(settings: &Settings, problems: &mut Problems) {
    for url in &settings.upstream.value {
        if let Err(error) = url.connector(&ClientTls::new()) {
            let origin = &settings.upstream.origin;
            problems.add(origin, format_args!("`upstream`: {url:?} is not valid: {error}"));
        }
    }
    if !settings.upstream.value.is_empty() {
        return;
    }
    let needs = |name, origin: &Origin, problems: &mut Problems| {
        problems.add(origin, format_args!("`{name}` needs `upstream`, a server to sync with"));
    };
    if settings.upstream_ca.value.is_some() {
        needs("upstream-ca", &settings.upstream_ca.origin, problems);
    }
    if settings.upstreams_per_covalue.value.is_some() {
        needs("upstreams-per-covalue", &settings.upstreams_per_covalue.origin, problems);
    }
    if settings.full_storage_reconciliation.value {
        needs(
            "full-storage-reconciliation",
            &settings.full_storage_reconciliation.origin,
            problems,
        );
    }
}

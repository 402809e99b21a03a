//! `downbeat serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use downbeat_node::{Node, NodeError, SyncConfig};
use downbeat_protocol::Limits;
use downbeat_transport::Listener;
use downbeat_transport::net::{ConnectionLimiter, ConnectionLimits, SpareFiles};
use downbeat_transport::tls::ClientTls;
use downbeat_transport_tcp::{TcpListener, TcpOptions};
use downbeat_transport_ws::{WsListener, WsOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::access::AccessControl;
use crate::admin::{Admin, AdminServer, Facts, Figures, PublicRoutes, SharedNode};
use crate::certificate::CertificateWatch;
use crate::config::{AccessConfig, Config, Loaded, Sources};
use crate::log::{Log, LogWriter};
use crate::signals::{Signal, Signals};
use crate::storage::{DurabilityChoice, StorageChoice};
use crate::{exit, log, storage};

/// Descriptors that are kept back, for the admin port and for refusing clients when there are no
/// others left.
const RESERVED_FILES: usize = 16;

/// Runs the server until it is told to stop.
pub(crate) fn run(sources: &Sources) -> ExitCode {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix limits open files"))]
    let mut loaded = match sources.load() {
        Ok(loaded) => loaded,
        Err(problems) => return exit::report(Err(problems.into())),
    };
    let log = match log::init(&loaded.config) {
        Ok(log) => log,
        Err(error) => return exit::report(Err(error)),
    };
    let result = run_logged(&mut loaded, &log);
    // Standard error may be what holds up the log.
    exit::report_to(&mut log.writer(), result)
}

fn run_logged(loaded: &mut Loaded, log: &Log) -> anyhow::Result<()> {
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    #[cfg(unix)]
    {
        loaded.config.connections = crate::open_files::fit(loaded.config.connections);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(serve(&loaded.config, log.writer()))
}

async fn serve(config: &Config, log: LogWriter) -> anyhow::Result<()> {
    // Before anything is announced, so that a stop right after it is not missed.
    let mut signals = Signals::listen()?;
    let access = AccessControl::load(config)?;
    let shared = SharedNode::default();
    let (options, certificate) = ws_options(config, &access, &shared)?;
    let reserve = options.spare_files.clone();
    let counters = Arc::clone(&options.counters);

    let tcp = match config.tcp {
        Some(address) => Some(listen_tcp(address, config, &options).await?),
        None => None,
    };
    let tcp_url = tcp.as_ref().map(Listener::url);
    let listener = WsListener::bind(config.address, options)
        .await
        .with_context(|| format!("cannot listen on {}", config.address))?;
    let url = listener.url();
    let facts = facts(config, url.clone());
    let sources = Figures {
        node: Arc::clone(&shared),
        transport: counters,
        certificate: certificate.as_ref().map(CertificateWatch::reloader),
        log,
    };
    let admin = Arc::new(Admin::new(sources, facts));
    let admin_port = match config.admin {
        Some(address) => Some(
            admin
                .listen(address, &config.admin_names, reserve)
                .await
                .with_context(|| format!("cannot listen on {address}"))?,
        ),
        None => None,
    };
    let cache = config.memory.storage_cache;
    let storage = storage::open_with_cache(&config.storage, config.durability, Some(cache)).await?;
    let node = node(config, &access, (listener, tcp), storage)?;
    *shared.write().await = Some(node);
    access.apply_limits(&shared).await;

    announce(&url, tcp_url.as_deref(), config, admin_port.as_ref())?;
    warn_of_strangers(config, admin_port.as_ref());
    let mut tasks = JoinSet::new();
    if let Some(port) = admin_port {
        tasks.spawn(port.run());
        tasks.spawn(admin.keep_history());
    }
    let (look, looks) = watch::channel(());
    if let Some(certificate) = certificate {
        tasks.spawn(certificate.run(looks.clone()));
    }
    tasks.spawn(access.watch(Arc::clone(&shared), looks));

    run_until_stopped(&mut signals, &shared, &look).await?;
    drain(&mut signals, &shared).await?;
    tasks.shutdown().await;
    info!("stopped");
    Ok(())
}

/// Serves until a signal says to stop.
async fn run_until_stopped(
    signals: &mut Signals,
    shared: &SharedNode,
    look: &watch::Sender<()>,
) -> anyhow::Result<()> {
    loop {
        // Held only while nothing happens, so that a shutdown can take the node.
        let node = shared.read().await;
        let Some(running) = node.as_ref() else { return Ok(()) };
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = running.failed() => {
                anyhow::bail!("the server has stopped because of a bug; see its log")
            }
        };
        match signal {
            Signal::Stop(name) => {
                info!("{name}: finishing what was taken in");
                return Ok(());
            }
            Signal::Reload => {
                info!("SIGHUP: reading certificates, keys and accounts again");
                let _ = look.send(());
            }
        }
    }
}

/// Shuts the node down. A second signal to stop means at once.
async fn drain(signals: &mut Signals, shared: &SharedNode) -> anyhow::Result<()> {
    let Some(node) = shared.write().await.take() else { return Ok(()) };
    let hurried = async {
        loop {
            if let Signal::Stop(name) = signals.next().await {
                return name;
            }
        }
    };
    tokio::select! {
        result = node.shutdown() => Ok(result?),
        name = hurried => Err(Hurried(name).into()),
    }
}

/// A second signal has ended the server before it had finished.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hurried(&'static str);

impl std::fmt::Display for Hurried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a second {} ended the server before it had finished", self.0)
    }
}

impl std::error::Error for Hurried {}

fn ws_options(
    config: &Config,
    access: &AccessControl,
    shared: &SharedNode,
) -> anyhow::Result<(WsOptions, Option<CertificateWatch>)> {
    let (tls, certificate) = config.tls.as_ref().map(CertificateWatch::load).transpose()?.unzip();
    let options = WsOptions {
        limits: Limits { message_bytes: config.max_message_bytes, ..Limits::default() },
        max_frame_bytes: config.max_message_bytes,
        connection_limits: handshake_limits(config).0,
        limiter: Some(ConnectionLimiter::new(config.connections)),
        spare_files: Some(SpareFiles::new(RESERVED_FILES)),
        admission: Some(Arc::clone(&access.door) as Arc<_>),
        trusted_proxies: config.proxies.clone(),
        tls,
        routes: Some(Arc::new(PublicRoutes(Arc::clone(shared)))),
        ..WsOptions::default()
    };
    Ok((options, certificate))
}

/// The limits of the WebSocket port and of the TCP port. They share the pending handshakes: servers
/// are fewer than clients.
fn handshake_limits(config: &Config) -> (ConnectionLimits, ConnectionLimits) {
    let all = config.connections;
    let tcp = if config.tcp.is_some() { all.pending / 8 } else { 0 };
    let with = |pending: usize| ConnectionLimits {
        pending,
        pending_per_address: all.pending_per_address.min(pending),
        ..all
    };
    (with(all.pending - tcp), with(tcp))
}

/// Listens on the TCP port. It has the limits, keys, certificate and counters of the WebSocket port.
async fn listen_tcp(
    address: SocketAddr,
    config: &Config,
    ws: &WsOptions,
) -> anyhow::Result<TcpListener> {
    let options = TcpOptions {
        limits: ws.limits,
        max_frame_bytes: ws.max_frame_bytes,
        connection_limits: handshake_limits(config).1,
        limiter: ws.limiter.clone(),
        spare_files: ws.spare_files.clone(),
        admission: ws.admission.clone(),
        tls: ws.tls.clone(),
        counters: Arc::clone(&ws.counters),
        ..TcpOptions::default()
    };
    TcpListener::bind(address, options).await.with_context(|| format!("cannot listen on {address}"))
}

fn node(
    config: &Config,
    access: &AccessControl,
    (listener, tcp): (WsListener, Option<TcpListener>),
    storage: Arc<dyn downbeat_storage::Storage>,
) -> anyhow::Result<Node> {
    let mut node = Node::builder(storage)
        .listen(Box::new(listener))
        .sync_config(sync_config(config))
        .content_cache(config.memory.content_cache)
        .limits(config.limits)
        .access(access.of_node())
        .drain_time(config.drain_time);
    if let Some(tcp) = tcp {
        node = node.listen(Box::new(tcp));
    }
    if let Some(path) = usage_file(&config.storage) {
        node = node.usage_file(path);
    }
    let mut client_tls = ClientTls::new();
    if let Some(path) = &config.upstream_authorities {
        client_tls = client_tls.with_authorities(path)?;
    }
    for upstream in &config.upstreams {
        let connector = upstream
            .connector(&client_tls)
            .with_context(|| format!("the upstream {upstream:?}"))?;
        node = node.upstream(connector);
    }
    Ok(node.start()?)
}

/// Beside the store: what it holds is counted again from nothing when it is not there.
fn usage_file(storage: &StorageChoice) -> Option<PathBuf> {
    let text = storage.to_string();
    let (_, path) = text.split_once(':')?;
    Some(format!("{}.usage", path.trim_end_matches('/')).into())
}

fn sync_config(config: &Config) -> SyncConfig {
    let mut sync = SyncConfig {
        full_storage_reconciliation: config.full_storage_reconciliation,
        warm_co_values: config.memory.warm_co_values,
        warm_chains: config.memory.warm_chains,
        ..SyncConfig::default()
    };
    if let Some(count) = config.upstreams_per_co_value {
        sync.upstreams_per_co_value = count;
    }
    sync
}

fn facts(config: &Config, url: String) -> Facts {
    Facts {
        url,
        storage: config.storage.to_string(),
        durability: match config.durability {
            DurabilityChoice::Safe => "safe",
            DurabilityChoice::Relaxed => "relaxed",
        },
        access: match config.access {
            AccessConfig::Open => "open",
            AccessConfig::Keys(_) => "keys",
            AccessConfig::Accounts { .. } => "accounts",
        },
        encrypted: config.tls.is_some(),
    }
}

/// Says on standard output where the server is: for people, and for programs that started it.
fn announce(
    url: &str,
    tcp_url: Option<&str>,
    config: &Config,
    admin: Option<&AdminServer>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Downbeat is listening. Point your Jazz app's sync peer at:\n\n    {url}\n")?;
    if let Some(url) = tcp_url {
        writeln!(out, "Other Downbeat servers can use {url} as their upstream.")?;
    }
    if let Some(admin) = admin {
        writeln!(out, "The status page is at http://{}/", admin.address())?;
    }
    writeln!(out, "Data is kept in {}. Ctrl-C stops the server.", config.storage)?;
    out.flush().context("standard output is closed")
}

/// Warns where people who were not meant may come in.
fn warn_of_strangers(config: &Config, admin: Option<&AdminServer>) {
    if !config.address.ip().is_loopback() && config.access == AccessConfig::Open {
        warn!(
            address = %config.address,
            "whoever can reach this address can store data here: `--access keys` or \
             `--access accounts` lets in only whom you choose"
        );
    }
    let is_plain = config.tls.is_none() && !config.behind_proxy;
    if !config.address.ip().is_loopback()
        && matches!(config.access, AccessConfig::Keys(_))
        && is_plain
    {
        warn!(
            address = %config.address,
            "keys come to this address unencrypted, and whoever sees one can use it: give the \
             server a certificate (`--tls-cert`), or name the proxy that has one (`--trusted-proxy`)"
        );
    }
    if let Some(address) = admin.map(AdminServer::address).filter(|a| !a.ip().is_loopback()) {
        warn!(
            %address,
            "whoever can reach the admin port can read all figures of the server, with addresses \
             of clients and ids of CoValues"
        );
    }
}

/// Whether an error says that not all was finished, rather than that something failed.
pub(crate) fn is_unfinished(error: &anyhow::Error) -> bool {
    error.is::<Hurried>()
        || matches!(error.downcast_ref::<NodeError>(), Some(NodeError::NotDrained(_)))
}

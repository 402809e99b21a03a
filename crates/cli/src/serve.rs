//! `downbeat serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use downbeat_admin::{
    Admin, AdminServer, PublicRoutes, ServerInfo, SharedNode, Sources as AdminSources,
};
use downbeat_node::{Node, SyncConfig};
use downbeat_protocol::Limits;
use downbeat_transport::Listener;
use downbeat_transport::net::{ConnectionLimiter, ConnectionLimits, ReceiveBudget, SpareFiles};
use downbeat_transport::tls::ClientTls;
use downbeat_transport_tcp::{TcpListener, TcpOptions};
use downbeat_transport_ws::{WsListener, WsOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::access::AccessControl;
use crate::certificate::CertificateWatch;
use crate::config::{AccessConfig, Config, Loaded, Sources};
use crate::log::{Log, LogWriter};
use crate::signals::{ForcedShutdown, Signal, Signals};
use crate::storage::{DurabilityChoice, OpenOptions, Opened, Place, StorageFormat};
use crate::{exit, log, storage};

/// Reserved file descriptors. When no others are left, they serve the admin port and the refusal of
/// clients.
const RESERVED_FILES: usize = 16;

/// Runs the server until a signal stops it.
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
    // Through the log's buffer, because standard error may be stalled.
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
        .context("cannot start the async runtime")?;
    runtime.block_on(serve(&loaded.config, log.writer()))
}

async fn serve(config: &Config, log: LogWriter) -> anyhow::Result<()> {
    // Before the URL is printed, so that a signal right after that is not missed.
    let mut signals = Signals::listen()?;
    let access = AccessControl::load(config)?;
    let place = config.storage.place()?;
    let shared = SharedNode::default();
    let (options, certificate) = ws_options(config, &access, &shared)?;
    let reserve = options.spare_files.clone();
    let counters = Arc::clone(&options.counters);
    let receive_budget = Arc::clone(&options.receive_budget);

    let tcp = match config.tcp {
        Some(address) => Some(listen_tcp(address, config, &options).await?),
        None => None,
    };
    let tcp_url = tcp.as_ref().map(Listener::url);
    let listener = WsListener::bind(config.address, options)
        .await
        .with_context(|| format!("cannot listen on {}", config.address))?;
    let url = listener.url();
    let mut sources = AdminSources::new(Arc::clone(&shared));
    sources.transport = counters;
    sources.receive_budget = receive_budget;
    sources.certificate = certificate.as_ref().map(CertificateWatch::reloader);
    sources.dropped_log_lines = Box::new(move || log.dropped());
    let admin = Arc::new(Admin::new(sources, server_info(config, &place, url.clone())));
    let admin_port = match config.admin {
        Some(address) => Some(
            admin
                .listen(address, &config.admin_names, reserve)
                .await
                .with_context(|| format!("cannot listen on {address}"))?,
        ),
        None => None,
    };
    let options = OpenOptions {
        durability: config.durability,
        cache_bytes: Some(config.memory.storage_cache),
        format: config.storage_format,
        exclusive: true,
    };
    let Opened { storage, format } = storage::open(&place, options).await?;
    let node = node(config, &access, (listener, tcp), (&place, storage))?;
    *shared.write().await = Some(node);
    access.apply_limits(&shared).await;

    let storage = described(&place, format);
    announce(&url, tcp_url.as_deref(), &storage, admin_port.as_ref())?;
    warn_about_exposure(config, admin_port.as_ref());
    let mut tasks = JoinSet::new();
    if let Some(port) = admin_port {
        tasks.spawn(port.run());
        tasks.spawn(admin.keep_history());
    }
    let (reload, reloads) = watch::channel(());
    if let Some(certificate) = certificate {
        tasks.spawn(certificate.run(reloads.clone()));
    }
    tasks.spawn(access.watch(Arc::clone(&shared), reloads));

    run_until_stopped(&mut signals, &shared, &reload).await?;
    drain(&mut signals, &shared).await?;
    tasks.shutdown().await;
    info!("stopped");
    Ok(())
}

/// Serves until a stop signal arrives or the node fails.
async fn run_until_stopped(
    signals: &mut Signals,
    shared: &SharedNode,
    reload: &watch::Sender<()>,
) -> anyhow::Result<()> {
    loop {
        // The lock is released before the shutdown takes the node.
        let node = shared.read().await;
        let Some(running) = node.as_ref() else { return Ok(()) };
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = running.failed() => {
                anyhow::bail!("a bug has stopped the server; see its log")
            }
        };
        match signal {
            Signal::Stop(name) => {
                info!("{name}: storing received content before the shutdown");
                return Ok(());
            }
            Signal::Reload => {
                info!("SIGHUP: reading certificates, keys and accounts again");
                let _ = reload.send(());
            }
        }
    }
}

/// Shuts the node down. A second stop signal skips the wait for unfinished work.
async fn drain(signals: &mut Signals, shared: &SharedNode) -> anyhow::Result<()> {
    let Some(node) = shared.write().await.take() else { return Ok(()) };
    let second_stop = async {
        loop {
            if let Signal::Stop(name) = signals.next().await {
                return name;
            }
        }
    };
    tokio::select! {
        result = node.shutdown() => Ok(result?),
        name = second_stop => Err(ForcedShutdown(name).into()),
    }
}

fn ws_options(
    config: &Config,
    access: &AccessControl,
    shared: &SharedNode,
) -> anyhow::Result<(WsOptions, Option<CertificateWatch>)> {
    let (tls, certificate) = config.tls.as_ref().map(CertificateWatch::load).transpose()?.unzip();
    let receiving = usize::try_from(config.memory.receiving).unwrap_or(usize::MAX);
    let options = WsOptions {
        limits: message_limits(config),
        max_frame_bytes: config.max_message_bytes,
        receive_budget: Arc::new(ReceiveBudget::new(receiving)),
        connection_limits: handshake_limits(config).0,
        limiter: Some(ConnectionLimiter::new(config.connections)),
        spare_files: Some(SpareFiles::new(RESERVED_FILES)),
        admission: Some(Arc::clone(&access.admissions) as Arc<_>),
        trusted_proxies: config.proxies.clone(),
        tls,
        routes: Some(Arc::new(PublicRoutes(Arc::clone(shared)))),
        ..WsOptions::default()
    };
    Ok((options, certificate))
}

/// The longest list of sessions: that of a CoValue with twice as many writers as have been seen. A
/// message of the default size has room for about 160,000.
const MAX_SESSIONS: usize = 200_000;

/// The limits on the content of a client's message.
fn message_limits(config: &Config) -> Limits {
    Limits { message_bytes: config.max_message_bytes, sessions: MAX_SESSIONS, ..Limits::default() }
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

/// Listens on the TCP port. It has the limits, keys, certificate and counters of the WebSocket
/// port.
async fn listen_tcp(
    address: SocketAddr,
    config: &Config,
    ws: &WsOptions,
) -> anyhow::Result<TcpListener> {
    let options = TcpOptions {
        limits: ws.limits,
        max_frame_bytes: ws.max_frame_bytes,
        receive_budget: Arc::clone(&ws.receive_budget),
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
    (place, storage): (&Place, Arc<dyn downbeat_storage::Storage>),
) -> anyhow::Result<Node> {
    let mut node = Node::builder(storage)
        .listen(listener)
        .sync_config(sync_config(config))
        .content_cache(config.memory.content_cache)
        .limits(config.limits)
        .access(access.node_access())
        .drain_time(config.drain_time);
    if let Some(tcp) = tcp {
        node = node.listen(Box::new(tcp));
    }
    if let Some(path) = usage_file(place) {
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

/// The file with the counts for quotas, beside the store. Counting starts from zero without it.
fn usage_file(place: &Place) -> Option<PathBuf> {
    let path = place.path()?.display().to_string();
    Some(format!("{}.usage", path.trim_end_matches('/')).into())
}

fn sync_config(config: &Config) -> SyncConfig {
    let mut sync = SyncConfig {
        full_storage_reconciliation: config.full_storage_reconciliation,
        warm_co_values: config.memory.warm_co_values,
        warm_bytes: config.memory.index,
        warm_chains: config.memory.warm_chains,
        peer_bytes: config.memory.peers,
        // One peer leaves room for others.
        bytes_per_peer: config.memory.peers / 2,
        ..SyncConfig::default()
    };
    if let Some(count) = config.upstreams_per_co_value {
        sync.upstreams_per_co_value = count;
    }
    sync
}

fn server_info(config: &Config, place: &Place, url: String) -> ServerInfo {
    ServerInfo {
        url,
        storage: place.to_string(),
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

/// The storage with the format of its file, for people.
fn described(place: &Place, format: Option<StorageFormat>) -> String {
    match format {
        Some(format) => format!("{place} ({} format)", format.name()),
        None => place.to_string(),
    }
}

/// Prints the URLs of the server on standard output, for people and for parent processes.
fn announce(
    url: &str,
    tcp_url: Option<&str>,
    storage: &str,
    admin: Option<&AdminServer>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Downbeat is listening. Set the sync peer of your Jazz app to:\n\n    {url}\n")?;
    if let Some(url) = tcp_url {
        writeln!(out, "Other Downbeat servers can sync with {url}")?;
    }
    if let Some(admin) = admin {
        writeln!(out, "The status page is at http://{}/", admin.address())?;
    }
    writeln!(out, "Data is kept in {storage}. Ctrl-C stops the server.")?;
    out.flush().context("standard output is closed")
}

/// Warns about settings that let strangers in.
fn warn_about_exposure(config: &Config, admin: Option<&AdminServer>) {
    if !config.address.ip().is_loopback() && config.access == AccessConfig::Open {
        warn!(
            address = %config.address,
            "access is open: every client that can reach this address can store data here; \
             restrict it with `--access keys` or `--access accounts`"
        );
    }
    let is_plain = config.tls.is_none() && !config.behind_proxy;
    if !config.address.ip().is_loopback()
        && matches!(config.access, AccessConfig::Keys(_))
        && is_plain
    {
        warn!(
            address = %config.address,
            "clients send access keys to this address unencrypted: set a certificate (`--tls-cert`), \
             or name the TLS proxy (`--trusted-proxy`)"
        );
    }
    if let Some(address) = admin.map(AdminServer::address).filter(|a| !a.ip().is_loopback()) {
        warn!(
            %address,
            "the admin port is reachable from other machines and has no login: it shows all metrics, \
             with client addresses and CoValue ids"
        );
    }
}

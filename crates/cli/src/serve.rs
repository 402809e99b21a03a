//! `downbeat serve`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use downbeat_node::{Node, SyncConfig};
use downbeat_transport::Listener;
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::args::ServeOptions;
use crate::storage;

/// Runs the server until it is told to stop.
pub(crate) fn run(options: &ServeOptions) -> anyhow::Result<()> {
    init_log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(serve(options))
}

async fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    // Before anything is announced, so that a stop right after it is not missed.
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;

    let storage = storage::open(&options.storage, options.durability).await?;
    let address = SocketAddr::new(options.host, options.port);
    let listener = WsListener::bind(address, WsOptions::default())
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let url = listener.url();
    let mut node =
        Node::builder(storage).listen(Box::new(listener)).sync_config(sync_config(options));
    for url in &options.upstream {
        let connector = WsConnector::new(url, WsOptions::default())
            .with_context(|| format!("--upstream {url}"))?;
        node = node.upstream(Arc::new(connector));
    }
    let node = node.start()?;
    announce(&url, options)?;

    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        () = node.failed() => anyhow::bail!("the server has stopped because of a bug; see its log"),
    }
    node.shutdown().await?;
    info!("stopped");
    Ok(())
}

fn sync_config(options: &ServeOptions) -> SyncConfig {
    let mut config = SyncConfig {
        full_storage_reconciliation: options.full_storage_reconciliation,
        ..SyncConfig::default()
    };
    if let Some(count) = options.upstreams_per_covalue {
        config.upstreams_per_co_value = count.get();
    }
    config
}

/// Says on standard output where the server is: for people, and for programs that started it.
fn announce(url: &str, options: &ServeOptions) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Downbeat is listening. Point your Jazz app's sync peer at:\n\n    {url}\n")?;
    writeln!(out, "Data is kept in {}. Ctrl-C stops the server.", options.storage)?;
    out.flush().context("standard output is closed")
}

/// Logs go to standard error; `RUST_LOG` chooses which.
fn init_log() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

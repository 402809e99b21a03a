//! `downbeat serve`.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use downbeat_node::{Node, SyncConfig};
use downbeat_transport::Listener;
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::config::{Config, Sources};
use crate::{log, storage};

/// Runs the server until it is told to stop.
pub(crate) fn run(sources: &Sources) -> anyhow::Result<()> {
    let loaded = sources.load()?;
    log::init(&loaded.config)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(serve(&loaded.config))
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    // Before anything is announced, so that a stop right after it is not missed.
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;

    let storage = storage::open(&config.storage, config.durability).await?;
    let address = config.address;
    let listener = WsListener::bind(address, WsOptions::default())
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let url = listener.url();
    let mut node =
        Node::builder(storage).listen(Box::new(listener)).sync_config(sync_config(config));
    for upstream in &config.upstreams {
        let connector = WsConnector::new(&upstream.0, WsOptions::default())
            .with_context(|| format!("the upstream {upstream:?}"))?;
        node = node.upstream(Arc::new(connector));
    }
    let node = node.start()?;
    announce(&url, config)?;

    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        () = node.failed() => anyhow::bail!("the server has stopped because of a bug; see its log"),
    }
    node.shutdown().await?;
    info!("stopped");
    Ok(())
}

fn sync_config(config: &Config) -> SyncConfig {
    let mut sync = SyncConfig {
        full_storage_reconciliation: config.full_storage_reconciliation,
        ..SyncConfig::default()
    };
    if let Some(count) = config.upstreams_per_co_value {
        sync.upstreams_per_co_value = count;
    }
    sync
}

/// Says on standard output where the server is: for people, and for programs that started it.
fn announce(url: &str, config: &Config) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Downbeat is listening. Point your Jazz app's sync peer at:\n\n    {url}\n")?;
    writeln!(out, "Data is kept in {}. Ctrl-C stops the server.", config.storage)?;
    out.flush().context("standard output is closed")
}

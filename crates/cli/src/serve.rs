//! `downbeat serve`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use downbeat_node::Node;
use downbeat_storage::{MemoryStorage, Storage};
use downbeat_storage_sled::SledStorage;
use downbeat_transport::Listener;
use downbeat_transport_ws::{WsListener, WsOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::args::{ServeOptions, StorageChoice};

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

    let storage = open(&options.storage).await?;
    let address = SocketAddr::new(options.host, options.port);
    let listener = WsListener::bind(address, WsOptions::default())
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let url = listener.url();
    let node = Node::builder(storage).listen(Box::new(listener)).start()?;
    announce(&url, options)?;

    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        _ = terminate.recv() => info!("SIGTERM: stopping"),
    }
    node.shutdown().await?;
    info!("stopped");
    Ok(())
}

async fn open(choice: &StorageChoice) -> anyhow::Result<Arc<dyn Storage>> {
    Ok(match choice {
        StorageChoice::Memory => Arc::new(MemoryStorage::new()),
        StorageChoice::Sled(dir) => {
            let dir = dir.clone();
            let opening = tokio::task::spawn_blocking(move || SledStorage::open(dir));
            Arc::new(opening.await.context("opening the store broke off")??)
        }
    })
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

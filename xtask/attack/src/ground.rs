//! What an attack has: connections to the server, and the moments of its phases.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use downbeat_protocol::{CoValueId, Content};
use downbeat_transport::{Connection, Connector, Sender};
use downbeat_transport_tcp::{TcpConnector, TcpOptions};
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::link::Link;
use crate::socket::{Counters, Frames, Over, Reading, Socket};
use crate::wire;

/// The address of attackers. The honest client has another one.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The sizes of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    Full,
    /// With `--short`.
    Short,
}

/// The ground of one attack.
pub(crate) struct Ground {
    pub(crate) address: SocketAddr,
    /// The URL of the TCP port.
    pub(crate) tcp: Option<String>,
    /// The keys of the server, for servers with keys.
    pub(crate) keys: Vec<String>,
    /// Where the server connects to its upstream.
    pub(crate) upstream: Option<TcpListener>,
    pub(crate) sizes: Sizes,
    pub(crate) rng: Rng,
    pub(crate) counters: Arc<Counters>,
    /// Bytes that the server may store.
    pub(crate) storable: u64,
    /// The bounds of this attack beside those of all attacks.
    pub(crate) own_bounds: OwnBounds,
    prepared: Option<oneshot::Sender<()>>,
    begins: Option<oneshot::Receiver<()>>,
    over: watch::Receiver<bool>,
    /// Connections stay open until the end, unless the attack closes them.
    sockets: Vec<Socket>,
    /// The connection of [`Self::flood`].
    flooding: Option<Socket>,
    tcp_senders: Vec<Box<dyn Sender>>,
}

/// Bounds of single attacks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OwnBounds {
    /// The median of the honest client's writes.
    pub(crate) p50: Option<Duration>,
    /// The bytes that the attacker may receive.
    pub(crate) received: Option<u64>,
    /// The resident memory at the end.
    pub(crate) final_memory: Option<u64>,
}

impl Ground {
    pub(crate) fn new(
        address: SocketAddr,
        sizes: Sizes,
        prepared: oneshot::Sender<()>,
        begins: oneshot::Receiver<()>,
        over: watch::Receiver<bool>,
    ) -> Self {
        Self {
            address,
            tcp: None,
            keys: Vec::new(),
            upstream: None,
            sizes,
            rng: Rng::with_seed(14),
            counters: Arc::default(),
            storable: 0,
            own_bounds: OwnBounds::default(),
            prepared: Some(prepared),
            begins: Some(begins),
            over,
            sockets: Vec::new(),
            flooding: None,
            tcp_senders: Vec::new(),
        }
    }

    /// One of two sizes.
    pub(crate) fn pick<T>(&self, full: T, short: T) -> T {
        if self.sizes == Sizes::Full { full } else { short }
    }

    /// Ends the preparation. Returns when the undisturbed phase is over and the attack begins.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        if let (Some(prepared), Some(begins)) = (self.prepared.take(), self.begins.take()) {
            let _ = prepared.send(());
            begins.await.context("the trial has ended")?;
        }
        Ok(())
    }

    /// Whether the attack's time is over.
    pub(crate) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Waits, unless the attack's time is over.
    pub(crate) async fn pause(&mut self, time: Duration) -> Result<(), Over> {
        let mut over = self.over.clone();
        tokio::select! {
            _ = over.wait_for(|over| *over) => Err(Over),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    /// Waits until an instant, unless the attack's time is over.
    pub(crate) async fn pause_until(&mut self, then: Instant) -> Result<(), Over> {
        self.pause(then.saturating_duration_since(Instant::now())).await
    }

    /// A connection that reads everything.
    pub(crate) async fn connect(&mut self) -> Result<Socket> {
        self.connect_to("/").await
    }

    /// The same with another path, which may have a key.
    pub(crate) async fn connect_to(&mut self, path: &str) -> Result<Socket> {
        self.connect_as(ATTACKER, path, Reading::All).await
    }

    /// A connection whose answers do not count as received.
    pub(crate) async fn connect_uncounted(&mut self) -> Result<Socket> {
        let counters = std::mem::take(&mut self.counters);
        let socket = self.connect().await;
        let uncounted = std::mem::replace(&mut self.counters, counters);
        let connections = uncounted.connections.load(Ordering::Relaxed);
        self.counters.connections.fetch_add(connections, Ordering::Relaxed);
        socket
    }

    pub(crate) async fn connect_reading(&mut self, reading: Reading) -> Result<Socket> {
        self.connect_as(ATTACKER, "/", reading).await
    }

    pub(crate) async fn connect_as(
        &mut self,
        from: Ipv4Addr,
        path: &str,
        reading: Reading,
    ) -> Result<Socket> {
        let socket =
            Socket::connect(self.address, from, path, reading, &self.counters, &self.over).await?;
        self.sockets.retain(|socket| !socket.is_closed());
        self.sockets.push(socket.clone());
        Ok(socket)
    }

    /// Sends frames over one connection, which later calls use too, like an attacker who connects
    /// again when the server closes it. Sends nothing more if the server refuses that.
    pub(crate) async fn flood(&mut self, frames: impl IntoIterator<Item = Frames>) -> Result<()> {
        for frames in frames {
            if let Some(socket) = &self.flooding
                && (socket.send_frames(&frames).await.is_ok() || self.is_over())
            {
                continue;
            }
            let Ok(again) = self.connect().await else { return Ok(()) };
            let sent = again.send_frames(&frames).await;
            self.flooding = sent.is_ok().then_some(again);
        }
        Ok(())
    }

    /// A connection over the TCP transport.
    pub(crate) async fn connect_tcp(&mut self) -> Result<Connection> {
        let url = self.tcp.as_deref().context("the TCP port is off")?;
        Ok(TcpConnector::new(url, TcpOptions::default())?.connect().await?)
    }

    /// Keeps a connection of the TCP transport open until the end.
    pub(crate) fn keep(&mut self, sender: Box<dyn Sender>) {
        self.tcp_senders.push(sender);
    }

    /// Closes all connections.
    pub(crate) async fn close_all(&mut self) {
        for socket in self.sockets.drain(..) {
            socket.close().await;
        }
        self.tcp_senders.clear();
    }

    /// Uploads content that the attack needs in the store, before it begins: what the files grow by
    /// is measured after that.
    pub(crate) async fn upload(&mut self, contents: Vec<Content>) -> Result<()> {
        let mut link = Link::connect(&self.address.to_string()).await?;
        link.upload(contents).await
    }

    /// Notes content that the server may store.
    pub(crate) fn may_store(&mut self, bytes: usize) {
        self.storable += bytes as u64;
    }

    /// Ids of CoValues that do not exist.
    pub(crate) fn random_ids(&mut self, count: usize) -> Vec<CoValueId> {
        (0..count).map(|_| wire::random_id(&mut self.rng)).collect()
    }
}

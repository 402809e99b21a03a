//! The server's side: one port for WebSockets and plain HTTP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use downbeat_transport::{Connection, Listener, TransportError};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::connection::configure;
use crate::handshake;
use crate::options::WsOptions;

/// How long no connection is accepted after the system refused one, for want of descriptors or
/// memory: trying again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes WebSocket connections, on any path, and answers plain HTTP requests on the same port.
///
/// Everything happens within [`accept`](Listener::accept): while nobody calls it, new connections
/// wait in the operating system's queue, and handshakes that are complete wait here.
pub struct WsListener {
    tcp: TcpListener,
    address: SocketAddr,
    options: Arc<WsOptions>,
    handshakes: JoinSet<Option<Connection>>,
    /// The handshakes by age; those done are taken out when the oldest are looked at.
    by_age: VecDeque<AbortHandle>,
    paused_until: Option<Instant>,
}

impl WsListener {
    /// Listens on an address; port 0 lets the system choose one.
    pub async fn bind(address: impl ToSocketAddrs, options: WsOptions) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self {
            address: tcp.local_addr()?,
            tcp,
            options: Arc::new(options),
            handshakes: JoinSet::new(),
            by_age: VecDeque::new(),
            paused_until: None,
        })
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = configure(&stream, self.options.dead_peer_timeout) {
            tracing::debug!(%peer, %error, "a connection ended before it began");
            return;
        }
        self.make_room();
        let options = Arc::clone(&self.options);
        let handshake = self.handshakes.spawn(async move {
            let address = peer.to_string();
            let serving = handshake::serve(stream, &address, &options);
            tokio::time::timeout(options.handshake_timeout, serving).await.unwrap_or_else(|_| {
                tracing::debug!(%peer, "no handshake in time");
                None
            })
        });
        self.by_age.push_back(handshake);
    }

    /// Gives up the oldest handshakes until there is room for another.
    fn make_room(&mut self) {
        let max = self.options.max_pending_handshakes.max(1);
        // Those done in the middle would otherwise stay as long as the oldest.
        if self.by_age.len() >= 2 * max {
            self.by_age.retain(|handshake| !handshake.is_finished());
        }
        while self.by_age.front().is_some_and(AbortHandle::is_finished) {
            self.by_age.pop_front();
        }
        if self.handshakes.len() >= max
            && let Some(oldest) = self.by_age.pop_front()
        {
            tracing::debug!(max, "too many pending handshakes: giving up the oldest");
            oldest.abort();
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        match error.kind() {
            // That one connection was gone before it was accepted.
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted => {}
            _ => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }
}

#[async_trait]
impl Listener for WsListener {
    async fn accept(&mut self) -> Result<Connection, TransportError> {
        loop {
            let paused_until = self.paused_until;
            let paused = async {
                match paused_until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // First, so that finished handshakes make room before another begins.
                biased;
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(connection)) => return Ok(connection),
                    Ok(None) => {}
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a handshake broke off"),
                },
                () = paused => self.paused_until = None,
                accepted = self.tcp.accept(), if paused_until.is_none() => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer),
                    Err(error) => self.accept_failed(&error),
                },
            }
        }
    }

    fn url(&self) -> String {
        format!("ws://{}", self.address)
    }
}

//! The server's side: one port for WebSockets and plain HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use downbeat_transport::net::{Acceptor, AcceptorSettings};
use downbeat_transport::{Connection, Listener, TransportError};
use tokio::net::ToSocketAddrs;

use crate::handshake::Reception;
use crate::options::WsOptions;

/// Takes WebSocket connections, on any path, and answers plain HTTP requests on the same port.
///
/// Everything happens within [`accept`](Listener::accept): while nobody calls it, new connections
/// wait in the operating system's queue, and handshakes that are complete wait here.
pub struct WsListener {
    acceptor: Acceptor,
    reception: Arc<Reception>,
}

impl WsListener {
    /// Listens on an address; port 0 lets the system choose one.
    pub async fn bind(address: impl ToSocketAddrs, options: WsOptions) -> io::Result<Self> {
        let settings = AcceptorSettings {
            limits: options.connection_limits,
            handshake_timeout: options.handshake_timeout,
            dead_peer_timeout: options.dead_peer_timeout,
            proxies: options.trusted_proxies.clone(),
            counters: Arc::clone(&options.counters),
            notices: Arc::default(),
            reserve: options.reserve.clone(),
        };
        let notices = Arc::clone(&settings.notices);
        let reception = Arc::new(Reception::new(options, notices).map_err(io::Error::other)?);
        Ok(Self { acceptor: Acceptor::bind(address, settings).await?, reception })
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.acceptor.local_address()
    }
}

#[async_trait]
impl Listener for WsListener {
    async fn accept(&mut self) -> Result<Connection, TransportError> {
        let reception = &self.reception;
        let handshake = |stream, peer, room| {
            let reception = Arc::clone(reception);
            async move { reception.receive(stream, peer, room).await }
        };
        Ok(self.acceptor.accept(handshake).await)
    }

    fn url(&self) -> String {
        let scheme = if self.reception.encrypts() { "wss" } else { "ws" };
        format!("{scheme}://{}", self.local_address())
    }
}

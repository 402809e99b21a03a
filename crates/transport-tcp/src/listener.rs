//! The server's side.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{self, TcpPort};
use downbeat_transport::{Connection, Listener, PeerInfo, TransportError};
use tokio::net::ToSocketAddrs;

use crate::handshake::ServerSide;
use crate::options::TcpOptions;

/// Accepts connections from other nodes and Rust programs.
///
/// All work happens within [`accept`](Listener::accept). Between two calls new connections wait in
/// the operating system's queue, and completed handshakes wait here.
pub struct TcpListener {
    port: TcpPort<ServerSide>,
}

impl TcpListener {
    /// Listens on an address; port 0 lets the system choose one.
    pub async fn bind(address: impl ToSocketAddrs, options: TcpOptions) -> io::Result<Self> {
        let port_options = options.port_options();
        Ok(Self { port: TcpPort::bind(address, port_options, ServerSide { options }).await? })
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.port.local_address()
    }
}

#[async_trait]
impl Listener for TcpListener {
    async fn accept(&mut self) -> Result<Connection, TransportError> {
        Ok(self.port.accept().await)
    }

    fn url(&self) -> String {
        self.port.url("tcp", "tcps")
    }
}

/// Accepts a client over a stream that is already open: a Unix socket, a pipe, a QUIC stream.
///
/// `client` holds the client's address for logs and, if it has one, for limits by address. The
/// caller is responsible for encryption. `options.admission` decides about the client as on a
/// [`TcpListener`]; connections are counted if `options.limiter` is set. See the example
/// `unix_socket`.
pub async fn accept_over(
    stream: impl Io,
    client: PeerInfo,
    options: &TcpOptions,
) -> Result<Connection, TransportError> {
    let handshake = ServerSide { options: options.clone() };
    internal::accept_over(stream, client, options.port_options(), &handshake).await
}

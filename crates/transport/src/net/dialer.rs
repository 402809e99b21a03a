//! The client's side: a TCP connection, TLS where the URL asks for it, and a handshake.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::error::TransportError;
use crate::net::socket::{Io, configure};
use crate::tls::{ClientTls, HostTls, TlsError};

/// A client's handshake on a stream that is connected and, where needed, encrypted.
pub trait ClientHandshake: Send + Sync {
    /// Makes a connection of the stream.
    fn run<S: Io>(
        &self,
        stream: S,
    ) -> impl Future<Output = Result<Connection, TransportError>> + Send;
}

/// Connects to one host and port.
pub struct Dialer {
    host: String,
    port: u16,
    tls: Option<HostTls>,
    timeout: Duration,
    dead_peer_timeout: Duration,
}

impl Dialer {
    /// Connects within `timeout`, handshake included.
    pub fn new(host: String, port: u16, timeout: Duration, dead_peer_timeout: Duration) -> Self {
        Self { host, port, tls: None, timeout, dead_peer_timeout }
    }

    /// Encrypts the connection, with these protocol names (ALPN).
    pub fn with_tls(mut self, tls: &ClientTls, protocols: &[&str]) -> Result<Self, TlsError> {
        self.tls = Some(tls.for_host(&self.host, protocols)?);
        Ok(self)
    }

    /// Tries once to connect.
    pub async fn connect(
        &self,
        handshake: &impl ClientHandshake,
    ) -> Result<Connection, TransportError> {
        within(self.timeout, self.establish(handshake)).await
    }

    async fn establish(
        &self,
        handshake: &impl ClientHandshake,
    ) -> Result<Connection, TransportError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(TransportError::Io)?;
        configure(&stream, self.dead_peer_timeout)?;
        match &self.tls {
            None => handshake.run(stream).await,
            Some(tls) => handshake.run(tls.connect(stream).await?).await,
        }
    }
}

/// Limits the time for making a connection.
pub async fn within(
    limit: Duration,
    connecting: impl Future<Output = Result<Connection, TransportError>>,
) -> Result<Connection, TransportError> {
    let what = "connecting";
    tokio::time::timeout(limit, connecting)
        .await
        .unwrap_or(Err(TransportError::TimedOut { what, limit }))
}

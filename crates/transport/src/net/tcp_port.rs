//! The server's side: a TCP port, TLS where it has a certificate, and a handshake.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs};
use tokio_rustls::TlsAcceptor;

use crate::admission::Admission;
use crate::connection::Connection;
use crate::counters::TransportCounters;
use crate::error::TransportError;
use crate::net::TrustedProxies;
use crate::net::acceptor::{Acceptor, AcceptorSettings, Descriptors};
use crate::net::admission_control::AdmissionControl;
use crate::net::dialer::within;
use crate::net::limiter::{ConnectionLimiter, ConnectionLimits};
use crate::net::log_throttle::LogThrottle;
use crate::net::socket::Io;
use crate::net::spare_files::SpareFiles;
use crate::peer::PeerInfo;
use crate::tls::ServerTls;

/// The options that both transports have.
#[derive(Clone)]
pub struct PortOptions {
    /// Connection limits.
    pub limits: ConnectionLimits,
    /// Counts connections together with other ports.
    pub limiter: Option<Arc<ConnectionLimiter>>,
    /// Decides who may connect.
    pub admission: Option<Arc<dyn Admission>>,
    /// Addresses that are not held to the limit of one address.
    pub proxies: TrustedProxies,
    /// The time for one handshake.
    pub handshake_timeout: Duration,
    /// When a peer counts as gone.
    pub dead_peer_timeout: Duration,
    /// Spare descriptors for refusing clients.
    pub spare_files: Option<Arc<SpareFiles>>,
    /// The listener's counters.
    pub counters: Arc<TransportCounters>,
    /// The certificate.
    pub tls: Option<ServerTls>,
}

/// A client whose handshake begins.
#[derive(Debug, Clone)]
pub struct RemoteClient {
    /// Its address.
    pub peer: PeerInfo,
    /// Whether its stream is encrypted.
    pub encrypted: bool,
    /// Whether there are file descriptors for its connection.
    pub descriptors: Descriptors,
}

impl RemoteClient {
    /// The address for limits. A client without one counts as a client on this machine.
    pub fn remote(&self) -> IpAddr {
        self.peer.remote.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }
}

/// A server's handshake on a stream that is accepted and, where needed, encrypted.
pub trait Handshake: Send + Sync + 'static {
    /// The protocol names in the TLS handshake (ALPN).
    const ALPN: &'static [&'static str];

    /// Makes a connection of the stream. A failure has been counted and answered.
    fn run<S: Io>(
        &self,
        stream: S,
        client: RemoteClient,
        admission: &AdmissionControl,
    ) -> impl Future<Output = Result<Connection, TransportError>> + Send;
}

/// A listener's TCP port.
pub struct TcpPort<H> {
    acceptor: Acceptor,
    server: Arc<Server<H>>,
}

struct Server<H> {
    handshake: H,
    admission: AdmissionControl,
    tls: Option<TlsAcceptor>,
}

impl<H: Handshake> TcpPort<H> {
    /// Listens on an address; port 0 lets the system choose one.
    pub async fn bind(
        address: impl ToSocketAddrs,
        options: PortOptions,
        handshake: H,
    ) -> io::Result<Self> {
        let PortOptions { limits, limiter, admission, tls, counters, .. } = options;
        let log = Arc::<LogThrottle>::default();
        let settings = AcceptorSettings {
            limits,
            handshake_timeout: options.handshake_timeout,
            dead_peer_timeout: options.dead_peer_timeout,
            proxies: options.proxies,
            counters: Arc::clone(&counters),
            log: Arc::clone(&log),
            spare_files: options.spare_files,
        };
        let tls = tls.map(|tls| tls.acceptor(H::ALPN)).transpose().map_err(io::Error::other)?;
        let limiter = limiter.unwrap_or_else(|| ConnectionLimiter::new(limits));
        let admission = AdmissionControl::new(limiter, admission, counters, log);
        let server = Arc::new(Server { handshake, admission, tls });
        Ok(Self { acceptor: Acceptor::bind(address, settings).await?, server })
    }

    /// The next connection. The call may be dropped at any time.
    pub async fn accept(&mut self) -> Connection {
        let server = &self.server;
        let handshake = |stream, peer, descriptors| {
            let server = Arc::clone(server);
            async move { server.serve(stream, peer, descriptors).await }
        };
        self.acceptor.accept(handshake).await
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.acceptor.local_address()
    }

    /// The URL for clients, with this scheme, or the other one with TLS.
    pub fn url(&self, plain: &str, encrypted: &str) -> String {
        let scheme = if self.server.tls.is_some() { encrypted } else { plain };
        format!("{scheme}://{}", self.local_address())
    }
}

impl<H: Handshake> Server<H> {
    async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        descriptors: Descriptors,
    ) -> Option<Connection> {
        let encrypted = self.tls.is_some();
        let remote = peer.ip().to_canonical();
        let info = PeerInfo::new(peer.to_string()).with_remote(remote);
        let client = RemoteClient { peer: info, encrypted, descriptors };
        let connection = match &self.tls {
            None => self.handshake.run(stream, client, &self.admission).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => self.handshake.run(stream, client, &self.admission).await,
                Err(error) => {
                    self.admission.counters().tls_failed.increment();
                    Err(TransportError::from(error))
                }
            },
        };
        connection
            .inspect_err(|error| tracing::debug!(%peer, %error, "a handshake has failed"))
            .ok()
    }
}

/// Runs a server's handshake on a stream that the caller has accepted.
pub async fn accept_over<H: Handshake>(
    stream: impl Io,
    peer: PeerInfo,
    options: PortOptions,
    handshake: &H,
) -> Result<Connection, TransportError> {
    let PortOptions { limits, limiter, admission, counters, handshake_timeout, .. } = options;
    let limiter = limiter.unwrap_or_else(|| ConnectionLimiter::new(limits));
    let admission =
        AdmissionControl::new(limiter, admission, Arc::clone(&counters), Arc::default());
    let client = RemoteClient { peer, encrypted: false, descriptors: Descriptors::Available };
    let _pending = super::acceptor::PendingGuard::new(Arc::clone(&counters));
    let accepting = handshake.run(stream, client, &admission);
    let connection = within(handshake_timeout, accepting).await;
    if let Err(TransportError::TimedOut { .. }) = &connection {
        counters.handshakes_timed_out.increment();
    }
    connection
}

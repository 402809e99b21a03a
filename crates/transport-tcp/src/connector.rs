//! The client's side.

use async_trait::async_trait;
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{Dialer, within};
use downbeat_transport::{Connection, Connector, PeerInfo, TransportError};

use crate::handshake::ClientSide;
use crate::hello::MAX_KEY_BYTES;
use crate::options::{ALPN, TcpOptions};
use crate::url::{InvalidUrl, Target};

/// Connects to another node; encrypted if the URL begins with `tcps://`.
///
/// ```
/// use downbeat_transport::Connector;
/// use downbeat_transport_tcp::{TcpConnector, TcpOptions};
///
/// let upstream = TcpConnector::new("tcp://core.example:4201?key=secret", TcpOptions::default())?;
/// assert_eq!(upstream.name(), "tcp://core.example:4201");
/// # Ok::<(), downbeat_transport_tcp::InvalidUrl>(())
/// ```
pub struct TcpConnector {
    dialer: Dialer,
    handshake: ClientSide,
}

impl TcpConnector {
    /// Connects to a URL, `tcp://host:port` or `tcps://host:port`, with `?key=` if the server needs
    /// a key. Uses the options for clients.
    pub fn new(url: &str, options: TcpOptions) -> Result<Self, InvalidUrl> {
        let Target { host, port, encrypted, key, name } = Target::parse(url)?;
        if key.as_ref().is_some_and(|key| key.expose().len() > MAX_KEY_BYTES) {
            return Err(InvalidUrl::LongKey { max: MAX_KEY_BYTES });
        }
        let mut dialer =
            Dialer::new(host, port, options.handshake_timeout, options.dead_peer_timeout);
        if encrypted {
            dialer = dialer
                .with_tls(&options.client_tls, ALPN)
                .map_err(|error| InvalidUrl::Tls(error.to_string()))?;
        }
        let server = PeerInfo::new(name).with_key(key);
        Ok(Self { dialer, handshake: ClientSide { server, options } })
    }
}

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self) -> Result<Connection, TransportError> {
        self.dialer.connect(&self.handshake).await
    }

    fn name(&self) -> &str {
        &self.handshake.server.address
    }
}

/// Connects over a stream that is already open: a Unix socket, a pipe, a QUIC stream.
///
/// `server` holds the server's name for logs and the key to send. The caller is responsible for
/// encryption. See the example `unix_socket`.
///
/// ```
/// use downbeat_protocol::Message;
/// use downbeat_transport::PeerInfo;
/// use downbeat_transport_tcp::{TcpOptions, accept_over, connect_over};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (near, far) = tokio::io::duplex(4096);
/// let options = TcpOptions::default();
/// let (mut client, mut server) = tokio::try_join!(
///     connect_over(near, PeerInfo::new("the server"), &options),
///     accept_over(far, PeerInfo::new("a client"), &options),
/// )?;
///
/// client.sender.send(&[Message::ReconcileAck("batch 1".into())]).await?;
/// assert!(server.receiver.receive().await?.is_some());
/// # Ok::<(), downbeat_transport::TransportError>(())
/// # }).unwrap();
/// ```
pub async fn connect_over(
    stream: impl Io,
    server: PeerInfo,
    options: &TcpOptions,
) -> Result<Connection, TransportError> {
    let handshake = ClientSide { server, options: options.clone() };
    within(options.handshake_timeout, handshake.greet(stream)).await
}

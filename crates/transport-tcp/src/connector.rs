//! The client's side.

use async_trait::async_trait;
use downbeat_transport::net::configure;
use downbeat_transport::tls::{ServerName, tls_error};
use downbeat_transport::{Connection, Connector, TransportError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::handshake::greet;
use crate::hello::MAX_KEY_BYTES;
use crate::options::{ALPN, TcpOptions};
use crate::url::{InvalidUrl, Target};

/// Connects to another node, at a `tcps://` URL encrypted.
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
    target: Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    options: TcpOptions,
}

impl TcpConnector {
    /// Takes the server's URL, `tcp://host:port` or `tcps://host:port`, with `?key=` where the
    /// server wants one; and the options that concern a client.
    pub fn new(url: &str, options: TcpOptions) -> Result<Self, InvalidUrl> {
        let target = Target::parse(url)?;
        if target.key.as_ref().is_some_and(|key| key.expose().len() > MAX_KEY_BYTES) {
            return Err(InvalidUrl::LongKey { max: MAX_KEY_BYTES });
        }
        let tls = target.encrypted.then(|| tls(&target.host, &options)).transpose()?;
        Ok(Self { target, tls, options })
    }

    async fn establish(&self) -> Result<Connection, TransportError> {
        let Target { host, port, key, name, .. } = &self.target;
        let stream =
            TcpStream::connect((host.as_str(), *port)).await.map_err(TransportError::Io)?;
        configure(&stream, self.options.dead_peer_timeout)?;
        match &self.tls {
            None => greet(stream, name, key.clone(), &self.options).await,
            Some((tls, host)) => {
                let stream = tls.connect(host.clone(), stream).await.map_err(tls_error)?;
                greet(stream, name, key.clone(), &self.options).await
            }
        }
    }
}

fn tls(
    host: &str,
    options: &TcpOptions,
) -> Result<(TlsConnector, ServerName<'static>), InvalidUrl> {
    let invalid = |error: &dyn std::error::Error| InvalidUrl::Tls(error.to_string());
    let connector = options.client_tls.connector(ALPN).map_err(|error| invalid(&error))?;
    let host = ServerName::try_from(host.to_owned()).map_err(|error| invalid(&error))?;
    Ok((connector, host))
}

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self) -> Result<Connection, TransportError> {
        let limit = self.options.handshake_timeout;
        let what = "connecting";
        tokio::time::timeout(limit, self.establish())
            .await
            .unwrap_or(Err(TransportError::TimedOut { what, limit }))
    }

    fn name(&self) -> &str {
        &self.target.name
    }
}

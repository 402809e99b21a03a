//! The client's side: a connection to another server.

use async_trait::async_trait;
use downbeat_transport::net::{Io, Pass, configure};
use downbeat_transport::tls::{ServerName, tls_error};
use downbeat_transport::{Connection, Connector, PeerInfo, TransportError};
use hyper::Uri;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use crate::connection;
use crate::gate::FrameGate;
use crate::options::{ALPN, WsOptions};
use crate::socket::transport_error;

/// The port of `ws://` URLs that name none.
const DEFAULT_PORT: u16 = 80;
/// The port of `wss://` URLs that name none.
const DEFAULT_TLS_PORT: u16 = 443;
/// What is repeated of a server's refusal, in characters.
const MAX_REFUSAL_CHARS: usize = 200;

/// Connects to a server by WebSocket, at a `wss://` URL encrypted.
///
/// ```
/// use downbeat_transport::Connector;
/// use downbeat_transport_ws::{WsConnector, WsOptions};
///
/// let upstream = WsConnector::new("ws://sync.example:4200/?key=secret", WsOptions::default())?;
/// assert_eq!(upstream.name(), "ws://sync.example:4200/");
/// # Ok::<(), downbeat_transport_ws::InvalidUrl>(())
/// ```
pub struct WsConnector {
    request: Request,
    host: String,
    port: u16,
    name: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    options: WsOptions,
}

/// Why a URL cannot be connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Not a URL at all.
    #[error("not a URL; write it like wss://host or ws://host:4200")]
    Syntax,
    /// Another scheme than `ws` and `wss`.
    #[error("the URL must begin with ws:// or wss://")]
    Scheme,
    /// A user or a password before the host.
    #[error("the URL must not hold a user or password; a key goes into ?key=")]
    UserInfo,
    /// A host that no certificate can be for, or TLS that cannot be set up.
    #[error("TLS is not possible with this URL: {0}")]
    Tls(String),
}

impl WsConnector {
    /// Takes the server's URL, and the options that concern a client: the limits, the time for the
    /// handshake, and when a peer counts as gone.
    pub fn new(url: &str, options: WsOptions) -> Result<Self, InvalidUrl> {
        let uri: Uri = url.parse().map_err(|_| InvalidUrl::Syntax)?;
        let encrypted = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(InvalidUrl::Scheme),
        };
        let authority = uri.authority().ok_or(InvalidUrl::Syntax)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        let host_only = authority.as_str().len() == authority.host().len();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if host_only && encrypted => DEFAULT_TLS_PORT,
            None if host_only => DEFAULT_PORT,
            None => return Err(InvalidUrl::Syntax),
        };
        let scheme = if encrypted { "wss" } else { "ws" };
        let name = format!("{scheme}://{authority}{}", uri.path());
        let tls = encrypted.then(|| tls(&host, &options)).transpose()?;
        let request = uri.into_client_request().map_err(|_| InvalidUrl::Syntax)?;
        Ok(Self { request, host, port, name, tls, options })
    }

    async fn establish(&self) -> Result<Connection, TransportError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(TransportError::Io)?;
        configure(&stream, self.options.dead_peer_timeout)?;
        match &self.tls {
            None => self.upgrade(stream).await,
            Some((tls, host)) => {
                let stream = tls.connect(host.clone(), stream).await.map_err(tls_error)?;
                self.upgrade(stream).await
            }
        }
    }

    async fn upgrade<S: Io>(&self, stream: S) -> Result<Connection, TransportError> {
        let stream = FrameGate::transparent(stream);
        let config = Some(self.options.config());
        let (ws, _response) = client_async_with_config(self.request.clone(), stream, config)
            .await
            .map_err(handshake_error)?;
        let info = PeerInfo::new(&self.name);
        Ok(connection::new(ws, info, None, Pass::default(), &self.options))
    }
}

fn tls(host: &str, options: &WsOptions) -> Result<(TlsConnector, ServerName<'static>), InvalidUrl> {
    let invalid = |error: &dyn std::error::Error| InvalidUrl::Tls(error.to_string());
    let connector = options.client_tls.connector(ALPN).map_err(|error| invalid(&error))?;
    let host = ServerName::try_from(host.to_owned()).map_err(|error| invalid(&error))?;
    Ok((connector, host))
}

#[async_trait]
impl Connector for WsConnector {
    async fn connect(&self) -> Result<Connection, TransportError> {
        let limit = self.options.handshake_timeout;
        let what = "connecting";
        tokio::time::timeout(limit, self.establish())
            .await
            .unwrap_or(Err(TransportError::TimedOut { what, limit }))
    }

    fn name(&self) -> &str {
        &self.name
    }
}

fn handshake_error(error: WsError) -> TransportError {
    let WsError::Http(response) = error else { return transport_error(error) };
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let said: String =
        body.trim().chars().filter(|c| !c.is_control()).take(MAX_REFUSAL_CHARS).collect();
    let separator = if said.is_empty() { "" } else { ": " };
    TransportError::Refused { reason: format!("{}{separator}{said}", response.status()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> Option<InvalidUrl> {
        WsConnector::new(url, WsOptions::default()).err()
    }

    #[test]
    fn only_ws_urls_with_a_host_are_taken() {
        assert_eq!(refused("ws://localhost"), None);
        assert_eq!(refused("ws://[::1]:4200/path?key=a@b"), None);
        assert_eq!(refused("wss://localhost"), None);
        assert_eq!(refused("wss://[::1]:4200"), None);
        assert!(matches!(refused("wss://not_-a.-host-"), Some(InvalidUrl::Tls(_))));
        assert_eq!(refused("http://localhost"), Some(InvalidUrl::Scheme));
        assert_eq!(refused("localhost:4200"), Some(InvalidUrl::Scheme));
        assert_eq!(refused("ws://"), Some(InvalidUrl::Syntax));
        assert_eq!(refused("ws://host:99999"), Some(InvalidUrl::Syntax));
        assert_eq!(refused("ws://me:secret@host"), Some(InvalidUrl::UserInfo));
    }

    #[test]
    fn the_host_of_an_ipv6_url_has_no_brackets() {
        let connector = WsConnector::new("ws://[::1]:4200", WsOptions::default()).unwrap();
        assert_eq!((connector.host.as_str(), connector.port), ("::1", 4200));
        assert_eq!(connector.name(), "ws://[::1]:4200/");
        let connector = WsConnector::new("wss://host?key=secret", WsOptions::default()).unwrap();
        assert_eq!((connector.host.as_str(), connector.port), ("host", 443));
        assert_eq!(connector.name(), "wss://host/");
    }
}

//! The client's side: a connection to another server.

use std::io;

use async_trait::async_trait;
use downbeat_transport::net::{Io, Pass, configure};
use downbeat_transport::tls::{ServerName, tls_error};
use downbeat_transport::{Connection, Connector, PeerInfo, TransportError};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Parts};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connection;
use crate::gate::FrameGate;
use crate::options::{ALPN, DEFAULT_MAX_HEADER_BYTES, WsOptions};
use crate::upgrade::{ClientUpgrade, NotAnUpgrade};

/// The port of `ws://` URLs that name none.
const DEFAULT_PORT: u16 = 80;
/// The port of `wss://` URLs that name none.
const DEFAULT_TLS_PORT: u16 = 443;
/// What is read of a server's answer to the upgrade: as much as a listener reads of a request.
const MAX_ANSWER_BYTES: usize = DEFAULT_MAX_HEADER_BYTES;
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
    url: Uri,
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
        ClientUpgrade::request(&uri).ok_or(InvalidUrl::Syntax)?;
        Ok(Self { url: uri, host, port, name, tls, options })
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
        let (request, upgrade) = ClientUpgrade::request(&self.url)
            .ok_or_else(|| TransportError::Protocol("a URL without a host".to_owned()))?;
        let (mut http, serving) = http1::Builder::new()
            .title_case_headers(true)
            .max_buf_size(MAX_ANSWER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| http_error(&error))?;
        let asking = async move {
            let response = http.send_request(request).await.map_err(|error| http_error(&error))?;
            match upgrade.check(&response) {
                Ok(()) => Ok(()),
                Err(NotAnUpgrade::Status) => Err(refusal(response).await),
                Err(error) => Err(TransportError::Protocol(error.to_string())),
            }
        };
        let (asked, served) = tokio::join!(asking, serving.without_shutdown());
        asked?;
        let Parts { io, read_buf, .. } = served.map_err(|error| http_error(&error))?;
        // Copied, because an empty rest still has the whole buffer of the HTTP library with it.
        let stream = FrameGate::transparent(io.into_inner(), read_buf.to_vec());
        let config = Some(self.options.config());
        let ws = WebSocketStream::from_raw_socket(stream, Role::Client, config).await;
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

/// A server that answers with something else than a WebSocket, and what it says.
async fn refusal(response: Response<Incoming>) -> TransportError {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let said: String =
        text.trim().chars().filter(|c| !c.is_control()).take(MAX_REFUSAL_CHARS).collect();
    let separator = if said.is_empty() { "" } else { ": " };
    TransportError::Refused { reason: format!("{status}{separator}{said}") }
}

fn http_error(error: &hyper::Error) -> TransportError {
    use std::error::Error;
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return TransportError::Disconnected;
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        // It cannot be taken out of the library's error.
        Some(source) => match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code).into(),
            None => io::Error::new(source.kind(), source.to_string()).into(),
        },
        None => TransportError::Protocol(error.to_string()),
    }
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

//! The client's side.

use std::io;

use async_trait::async_trait;
use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{ClientHandshake, Dialer, Permit, within};
use downbeat_transport::{Connection, Connector, PeerInfo, TransportError};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Parts};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connection;
use crate::frame_reader::FrameReader;
use crate::options::{ALPN, DEFAULT_MAX_HEADER_BYTES, WsOptions};
use crate::upgrade::{ClientUpgrade, NotAnUpgrade};
use crate::url::{InvalidUrl, WsUrl};

/// The most bytes of a server's answer: the same limit as for a request at a listener.
const MAX_ANSWER_BYTES: usize = DEFAULT_MAX_HEADER_BYTES;
/// The most characters of a server's refusal that an error repeats.
const MAX_REFUSAL_CHARS: usize = 200;

/// Connects to a server by WebSocket; encrypted if the URL begins with `wss://`.
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
    dialer: Dialer,
    handshake: ClientSide,
}

struct ClientSide {
    url: WsUrl,
    options: WsOptions,
}

impl WsConnector {
    /// Connects to a URL. Uses the options for clients: the size limits, the timeouts and the
    /// trusted authorities.
    pub fn new(url: &str, options: WsOptions) -> Result<Self, InvalidUrl> {
        let url = WsUrl::parse(url)?;
        let (timeout, dead_peer_timeout) = (options.handshake_timeout, options.dead_peer_timeout);
        let mut dialer = Dialer::new(url.host.clone(), url.port, timeout, dead_peer_timeout);
        if url.encrypted {
            dialer = dialer
                .with_tls(&options.client_tls, ALPN)
                .map_err(|error| InvalidUrl::Tls(error.to_string()))?;
        }
        Ok(Self { dialer, handshake: ClientSide { url, options } })
    }
}

#[async_trait]
impl Connector for WsConnector {
    async fn connect(&self) -> Result<Connection, TransportError> {
        self.dialer.connect(&self.handshake).await
    }

    fn name(&self) -> &str {
        &self.handshake.url.name
    }
}

/// Upgrades a stream that is already open to a WebSocket: a Unix socket, a pipe, a tunnel.
///
/// The URL gives the host, path and key of the request; its host and port are not connected to. The
/// caller is responsible for encryption, also if the URL begins with `wss://`.
///
/// ```
/// use downbeat_protocol::Message;
/// use downbeat_transport::PeerInfo;
/// use downbeat_transport_ws::{WsOptions, WsUrl, accept_over, connect_over};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (near, far) = tokio::io::duplex(4096);
/// let (url, options) = (WsUrl::parse("ws://localhost/?key=secret")?, WsOptions::default());
/// let (mut client, mut server) = tokio::try_join!(
///     connect_over(near, &url, &options),
///     accept_over(far, PeerInfo::new("a client"), &options),
/// )?;
///
/// client.sender.send(&[Message::ReconcileAck("batch 1".into())]).await?;
/// assert!(server.receiver.receive().await?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub async fn connect_over(
    stream: impl Io,
    url: &WsUrl,
    options: &WsOptions,
) -> Result<Connection, TransportError> {
    let handshake = ClientSide { url: url.clone(), options: options.clone() };
    within(options.handshake_timeout, handshake.run(stream)).await
}

impl ClientHandshake for ClientSide {
    async fn run<S: Io>(&self, stream: S) -> Result<Connection, TransportError> {
        let (request, upgrade) = ClientUpgrade::request(&self.url.uri)
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
        // Copied, because even an empty rest keeps the whole buffer of the HTTP library alive.
        let stream = FrameReader::transparent(io.into_inner(), read_buf.to_vec());
        let config = Some(self.options.config());
        let ws = WebSocketStream::from_raw_socket(stream, Role::Client, config).await;
        let info = PeerInfo::new(&self.url.name);
        Ok(connection::new(ws, info, None, Permit::default(), &self.options))
    }
}

/// The error for a server that answers without an upgrade, with the server's text.
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

pub(crate) fn http_error(error: &hyper::Error) -> TransportError {
    use std::error::Error;
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return TransportError::Disconnected;
    }
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        // The library's error gives only a reference to it.
        Some(source) => match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code).into(),
            None => io::Error::new(source.kind(), source.to_string()).into(),
        },
        None => TransportError::Protocol(error.to_string()),
    }
}

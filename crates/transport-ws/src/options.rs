//! What a WebSocket accepts and how it behaves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use downbeat_protocol::Limits;
use downbeat_transport::net::{ConnectionLimits, Reserve, TrustedProxies};
use downbeat_transport::tls::{ClientTls, ServerTls};
use downbeat_transport::{Admission, TransportCounters};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::routes::Routes;

/// What TLS calls a WebSocket's handshake.
pub(crate) const ALPN: &[&str] = &["http/1.1"];

/// Headers of a request. Browsers send a few KiB, most of it cookies; and hyper's least buffer is
/// 8 KiB.
pub(crate) const DEFAULT_MAX_HEADER_BYTES: usize = 16 << 10;
/// From the accepted TCP connection to the WebSocket. A phone on a bad network needs two or three
/// seconds with TLS.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the reference sends, and clients go by: they give a connection up after 10 s of silence.
const DEFAULT_PING_INTERVAL: Duration = Duration::from_millis(1_500);
/// Far more than a phone between two cells is silent, and below it one byte a second would do to
/// hold a frame's memory for days.
const DEFAULT_STALLED_FRAME_TIMEOUT: Duration = Duration::from_mins(1);
/// Three times the silence after which a client gives us up.
const DEFAULT_DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// As the clients do; a server shows a sign of life every 1.5 s.
const DEFAULT_SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// What an idle connection holds for reading; larger frames get a buffer of their own size when
/// they come.
pub(crate) const READ_BUFFER_BYTES: usize = 2 << 10;
/// Messages longer than this are sent as several WebSocket fragments, so that what waits to be
/// written is about as much per connection, however long a message is. Batches stay below it.
pub(crate) const FRAGMENT_BYTES: usize = 32 << 10;
/// Small frames are gathered up to this before they are given to the socket.
const WRITE_BUFFER_BYTES: usize = 4 << 10;
/// One fragment on top of what was gathered, and answers to the peer's WebSocket pings.
const MAX_WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Limits and settings of WebSocket connections.
///
/// ```
/// use downbeat_transport_ws::WsOptions;
///
/// let options = WsOptions { max_frame_bytes: 1 << 20, ..WsOptions::default() };
/// # assert_eq!(options.connection_limits.pending, 1_024);
/// ```
#[derive(Clone)]
pub struct WsOptions {
    /// What decoding accepts in a frame.
    pub limits: Limits,
    /// Bytes in one frame, and in one message of several fragments. A frame over it is never
    /// allocated; its connection is closed with code 1009.
    pub max_frame_bytes: usize,
    /// Bytes in the head of an HTTP request; over it the answer is status 431.
    pub max_header_bytes: usize,
    /// The time for everything before the connection is established (as a client: from looking up
    /// the host's address on), and for a plain HTTP request with its answer.
    pub handshake_timeout: Duration,
    /// How many connections a listener takes.
    pub connection_limits: ConnectionLimits,
    /// Spare file descriptors with which a listener refuses clients when there are no others.
    pub reserve: Option<Arc<Reserve>>,
    /// Who may connect to a listener; without it everybody may.
    pub admission: Option<Arc<dyn Admission>>,
    /// The proxies whose word on a client's address is taken; none by default.
    pub trusted_proxies: TrustedProxies,
    /// The certificate of a listener, which then speaks TLS alone (`wss://`).
    pub tls: Option<ServerTls>,
    /// Which servers a connector trusts at `wss://` URLs.
    pub client_tls: ClientTls,
    /// What happens is counted here; clones of the options count in the same place.
    pub counters: Arc<TransportCounters>,
    /// How often a client gets a sign of life from us. A connection that we made sends none.
    pub ping_interval: Duration,
    /// What this server calls itself in its signs of life (`dc`).
    pub ping_name: String,
    /// How long a server that we have connected to may be silent before it counts as gone: every
    /// server of the protocol shows signs of life. Zero waits for ever. Clients show none, so the
    /// connections of a listener are not held to it.
    pub silence_timeout: Duration,
    /// How long sent bytes may wait for the peer's acknowledgement, before the peer counts as gone
    /// (Linux; elsewhere the operating system decides, after 10 to 20 minutes).
    pub dead_peer_timeout: Duration,
    /// How long a client may take for each 4 KiB of an unfinished message. A connection that is
    /// slower is closed with code 1008.
    pub stalled_frame_timeout: Duration,
    /// Answers plain HTTP requests other than `/health`.
    pub routes: Option<Arc<dyn Routes>>,
}

impl Default for WsOptions {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_frame_bytes: limits.message_bytes,
            limits,
            max_header_bytes: DEFAULT_MAX_HEADER_BYTES,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            connection_limits: ConnectionLimits::default(),
            reserve: None,
            admission: None,
            trusted_proxies: TrustedProxies::default(),
            tls: None,
            client_tls: ClientTls::default(),
            counters: Arc::default(),
            ping_interval: DEFAULT_PING_INTERVAL,
            ping_name: "downbeat".to_owned(),
            silence_timeout: DEFAULT_SILENCE_TIMEOUT,
            dead_peer_timeout: DEFAULT_DEAD_PEER_TIMEOUT,
            stalled_frame_timeout: DEFAULT_STALLED_FRAME_TIMEOUT,
            routes: None,
        }
    }
}

impl WsOptions {
    /// The settings in the WebSocket library's terms.
    pub(crate) fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
            .max_frame_size(Some(self.max_frame_bytes))
            .max_message_size(Some(self.max_frame_bytes))
    }
}

impl fmt::Debug for WsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsOptions")
            .field("limits", &self.limits)
            .field("max_frame_bytes", &self.max_frame_bytes)
            .field("max_header_bytes", &self.max_header_bytes)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("connection_limits", &self.connection_limits)
            .field("admission", &self.admission.is_some())
            .field("trusted_proxies", &self.trusted_proxies)
            .field("tls", &self.tls)
            .field("client_tls", &self.client_tls)
            .field("ping_interval", &self.ping_interval)
            .field("ping_name", &self.ping_name)
            .field("silence_timeout", &self.silence_timeout)
            .field("dead_peer_timeout", &self.dead_peer_timeout)
            .field("stalled_frame_timeout", &self.stalled_frame_timeout)
            .field("routes", &self.routes.is_some())
            .finish_non_exhaustive()
    }
}

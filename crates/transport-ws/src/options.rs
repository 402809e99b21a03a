//! Limits and settings of WebSocket connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use downbeat_protocol::Limits;
use downbeat_transport::net::internal::PortOptions;
use downbeat_transport::net::{
    ConnectionLimiter, ConnectionLimits, ReceiveBudget, SpareFiles, TrustedProxies,
};
use downbeat_transport::tls::{ClientTls, ServerTls};
use downbeat_transport::{Admission, TransportCounters};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::routes::Routes;

/// The protocol name in the TLS handshake.
pub(crate) const ALPN: &[&str] = &["http/1.1"];

/// The head of a request. Browsers send a few KiB, mostly cookies; hyper's smallest buffer is 8
/// KiB.
pub(crate) const DEFAULT_MAX_HEADER_BYTES: usize = 16 << 10;
/// The time from the accepted TCP connection to the WebSocket. A phone on a bad network needs two
/// or three seconds with TLS.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of the reference. Clients disconnect after 10 s of silence.
const DEFAULT_PING_INTERVAL: Duration = Duration::from_millis(1_500);
/// Longer than the pause of a phone between two cells. Without a limit a peer could send one byte a
/// second and so occupy the memory of a frame for days.
const DEFAULT_STALLED_FRAME_TIMEOUT: Duration = Duration::from_mins(1);
/// Three times the silence after which a client disconnects.
const DEFAULT_DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout of clients. A server sends a ping every 1.5 s.
const DEFAULT_SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// The read buffer of an idle connection. A larger frame gets a buffer of its own size.
pub(crate) const READ_BUFFER_BYTES: usize = 2 << 10;
/// Longer messages are sent as several WebSocket fragments, so that a long message does not need a
/// long write buffer. Batches are shorter.
pub(crate) const FRAGMENT_BYTES: usize = 32 << 10;
/// Small frames are gathered up to this size before they are written to the socket.
const WRITE_BUFFER_BYTES: usize = 4 << 10;
/// One fragment on top of what was gathered, and answers to the peer's WebSocket pings.
const MAX_WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Limits and settings of WebSocket connections.
///
/// Later versions may add fields: start from the default, with struct update syntax.
///
/// ```
/// use downbeat_transport_ws::WsOptions;
///
/// let options = WsOptions { max_frame_bytes: 1 << 20, ..WsOptions::default() };
/// # assert_eq!(options.connection_limits.pending, 1_024);
/// ```
#[derive(Clone)]
pub struct WsOptions {
    /// Limits on the content of a frame.
    pub limits: Limits,
    /// The most bytes in one frame, and in one message of several fragments. A larger frame is not
    /// read; its connection is closed with code 1009.
    pub max_frame_bytes: usize,
    /// The memory for messages that have arrived in part at a listener.
    pub receive_budget: Arc<ReceiveBudget>,
    /// The most bytes in the head of an HTTP request. The answer to a larger one is status 431.
    pub max_header_bytes: usize,
    /// The time for making a connection, and for a plain HTTP request with its answer. A client's
    /// time includes the look-up of the host.
    pub handshake_timeout: Duration,
    /// Limits on the connections of a listener.
    pub connection_limits: ConnectionLimits,
    /// Counts connections together with other listeners; without it the listener counts its own.
    pub limiter: Option<Arc<ConnectionLimiter>>,
    /// Spare file descriptors, with which a listener refuses clients when no others are left.
    pub spare_files: Option<Arc<SpareFiles>>,
    /// Decides who may connect to a listener; without it every peer may.
    pub admission: Option<Arc<dyn Admission>>,
    /// The proxies that a listener trusts to report a client's address; none by default.
    pub trusted_proxies: TrustedProxies,
    /// The certificate of a listener, which then accepts only TLS (`wss://`).
    pub tls: Option<ServerTls>,
    /// The authorities that a connector trusts for `wss://` URLs.
    pub client_tls: ClientTls,
    /// The counters, shared by all clones of the options.
    pub counters: Arc<TransportCounters>,
    /// The interval of a listener's pings. A connector sends none.
    pub ping_interval: Duration,
    /// The name of this server in its pings (`dc`).
    pub ping_name: String,
    /// How long the server of a connector may be silent before it counts as gone; zero for no
    /// limit. Servers send pings. Clients do not, so this limit does not apply to a listener.
    pub silence_timeout: Duration,
    /// How long sent bytes may wait for acknowledgement before the peer counts as gone (on Linux;
    /// elsewhere the operating system decides, after 10 to 20 minutes).
    pub dead_peer_timeout: Duration,
    /// The time for each 4 KiB of an unfinished message. A slower connection is closed with code
    /// 1008.
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
            receive_budget: Arc::default(),
            max_header_bytes: DEFAULT_MAX_HEADER_BYTES,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            connection_limits: ConnectionLimits::default(),
            limiter: None,
            spare_files: None,
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
    /// The options of the port that listens.
    pub(crate) fn port_options(&self) -> PortOptions {
        PortOptions {
            limits: self.connection_limits,
            limiter: self.limiter.clone(),
            admission: self.admission.clone(),
            proxies: self.trusted_proxies.clone(),
            handshake_timeout: self.handshake_timeout,
            dead_peer_timeout: self.dead_peer_timeout,
            spare_files: self.spare_files.clone(),
            counters: Arc::clone(&self.counters),
            tls: self.tls.clone(),
        }
    }

    /// The options of the WebSocket library.
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

//! Limits and settings of TCP connections.

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

/// The protocol name in the TLS handshake.
pub(crate) const ALPN: &[&str] = &["downbeat-tcp"];

/// The time from the accepted TCP connection to the answered hello.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of WebSocket pings.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// The timeout of WebSocket clients. Six keepalives fit into it, because a busy node, or a machine
/// that swaps, can miss one.
const DEFAULT_SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// A link that is re-routed needs several seconds.
const DEFAULT_DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than any pause on a bad link between servers. Without a limit a peer could send one byte
/// a second and so occupy the memory of a frame for days.
const DEFAULT_STALLED_FRAME_TIMEOUT: Duration = Duration::from_mins(1);

/// Limits and settings of TCP connections.
///
/// Later versions may add fields: start from the default, with struct update syntax.
///
/// ```
/// use downbeat_transport_tcp::TcpOptions;
///
/// let options = TcpOptions { name: "edge-1".to_owned(), ..TcpOptions::default() };
/// # assert_eq!(options.max_frame_bytes, 32 << 20);
/// ```
#[derive(Clone)]
pub struct TcpOptions {
    /// Limits on the content of a frame.
    pub limits: Limits,
    /// The most bytes in one frame. A larger frame is not read; its connection is closed with code
    /// 1009.
    pub max_frame_bytes: usize,
    /// The memory for frames that have arrived in part.
    pub receive_budget: Arc<ReceiveBudget>,
    /// The name of this side in the peer's logs. At most 255 bytes are sent.
    pub name: String,
    /// The time for making a connection. A client's time includes the look-up of the host.
    pub handshake_timeout: Duration,
    /// The interval at which this side wants keepalives; none if zero.
    pub keep_alive: Duration,
    /// How long the peer may be silent before it counts as gone.
    pub silence_timeout: Duration,
    /// How long sent bytes may wait for acknowledgement before the peer counts as gone (on Linux;
    /// elsewhere the operating system decides, after 10 to 20 minutes).
    pub dead_peer_timeout: Duration,
    /// The time for each 4 KiB of an unfinished frame. A slower connection is closed with code
    /// 1008.
    pub stalled_frame_timeout: Duration,
    /// Limits on the connections of a listener.
    pub connection_limits: ConnectionLimits,
    /// Counts connections together with other listeners; without it the listener counts its own.
    pub limiter: Option<Arc<ConnectionLimiter>>,
    /// Spare file descriptors, with which a listener refuses clients when no others are left.
    pub spare_files: Option<Arc<SpareFiles>>,
    /// Decides who may connect to a listener; without it every peer may.
    pub admission: Option<Arc<dyn Admission>>,
    /// The certificate of a listener, which then accepts only TLS (`tcps://`).
    pub tls: Option<ServerTls>,
    /// The authorities that a connector trusts for `tcps://` URLs.
    pub client_tls: ClientTls,
    /// The counters, shared by all clones of the options.
    pub counters: Arc<TransportCounters>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_frame_bytes: limits.message_bytes,
            limits,
            receive_budget: Arc::default(),
            name: "downbeat".to_owned(),
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            keep_alive: DEFAULT_KEEP_ALIVE,
            silence_timeout: DEFAULT_SILENCE_TIMEOUT,
            dead_peer_timeout: DEFAULT_DEAD_PEER_TIMEOUT,
            stalled_frame_timeout: DEFAULT_STALLED_FRAME_TIMEOUT,
            connection_limits: ConnectionLimits::default(),
            limiter: None,
            spare_files: None,
            admission: None,
            tls: None,
            client_tls: ClientTls::default(),
            counters: Arc::default(),
        }
    }
}

impl TcpOptions {
    /// The options of the port that listens.
    pub(crate) fn port_options(&self) -> PortOptions {
        PortOptions {
            limits: self.connection_limits,
            limiter: self.limiter.clone(),
            admission: self.admission.clone(),
            // This transport has no header for a client's address.
            proxies: TrustedProxies::default(),
            handshake_timeout: self.handshake_timeout,
            dead_peer_timeout: self.dead_peer_timeout,
            spare_files: self.spare_files.clone(),
            counters: Arc::clone(&self.counters),
            tls: self.tls.clone(),
        }
    }
}

impl fmt::Debug for TcpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpOptions")
            .field("limits", &self.limits)
            .field("max_frame_bytes", &self.max_frame_bytes)
            .field("name", &self.name)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("keep_alive", &self.keep_alive)
            .field("silence_timeout", &self.silence_timeout)
            .field("dead_peer_timeout", &self.dead_peer_timeout)
            .field("stalled_frame_timeout", &self.stalled_frame_timeout)
            .field("connection_limits", &self.connection_limits)
            .field("admission", &self.admission.is_some())
            .field("tls", &self.tls)
            .field("client_tls", &self.client_tls)
            .finish_non_exhaustive()
    }
}

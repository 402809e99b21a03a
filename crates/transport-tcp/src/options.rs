//! What a TCP connection accepts and how it behaves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use downbeat_protocol::Limits;
use downbeat_transport::net::{ConnectionLimits, Reserve};
use downbeat_transport::tls::{ClientTls, ServerTls};
use downbeat_transport::{Admission, TransportCounters};

/// What TLS calls this transport.
pub(crate) const ALPN: &[&str] = &["downbeat-tcp"];

/// From the accepted TCP connection to the answered hello.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// As often as a WebSocket client gets one.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// As WebSocket clients wait. Six signs of life missed: a node that is busy, or a machine that
/// swaps, needs longer than one.
const DEFAULT_SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long bytes wait for the other system. A link that is re-routed needs several seconds.
const DEFAULT_DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(30);
/// Far more than a bad link between servers is silent, and below it one byte a second would do to
/// hold a frame's memory for days.
const DEFAULT_STALLED_FRAME_TIMEOUT: Duration = Duration::from_mins(1);

/// Limits and settings of TCP connections.
///
/// ```
/// use downbeat_transport_tcp::TcpOptions;
///
/// let options = TcpOptions { name: "edge-1".to_owned(), ..TcpOptions::default() };
/// # assert_eq!(options.max_frame_bytes, 32 << 20);
/// ```
#[derive(Clone)]
pub struct TcpOptions {
    /// What decoding accepts in a frame.
    pub limits: Limits,
    /// Bytes in one frame. A frame over it is never allocated; its connection is closed with code
    /// 1009.
    pub max_frame_bytes: usize,
    /// What this side calls itself, for the other's logs; at most 255 bytes of it are sent.
    pub name: String,
    /// The time for everything before the connection is established (as a client: from looking up
    /// the host's address on).
    pub handshake_timeout: Duration,
    /// How often this side wants a sign of life; none for zero.
    pub keep_alive: Duration,
    /// How long the other side may be silent before it counts as gone.
    pub silence_timeout: Duration,
    /// How long sent bytes may wait for the other side's acknowledgement, before it counts as gone
    /// (Linux; elsewhere the operating system decides, after 10 to 20 minutes).
    pub dead_peer_timeout: Duration,
    /// How long the other side may take for each 4 KiB of an unfinished frame. A connection that
    /// is slower is closed with code 1008.
    pub stalled_frame_timeout: Duration,
    /// How many connections a listener takes.
    pub connection_limits: ConnectionLimits,
    /// Spare file descriptors with which a listener refuses clients when there are no others.
    pub reserve: Option<Arc<Reserve>>,
    /// Who may connect to a listener; without it everybody may.
    pub admission: Option<Arc<dyn Admission>>,
    /// The certificate of a listener, which then speaks TLS alone (`tcps://`).
    pub tls: Option<ServerTls>,
    /// Which servers a connector trusts at `tcps://` URLs.
    pub client_tls: ClientTls,
    /// What happens is counted here; clones of the options count in the same place.
    pub counters: Arc<TransportCounters>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_frame_bytes: limits.message_bytes,
            limits,
            name: "downbeat".to_owned(),
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            keep_alive: DEFAULT_KEEP_ALIVE,
            silence_timeout: DEFAULT_SILENCE_TIMEOUT,
            dead_peer_timeout: DEFAULT_DEAD_PEER_TIMEOUT,
            stalled_frame_timeout: DEFAULT_STALLED_FRAME_TIMEOUT,
            connection_limits: ConnectionLimits::default(),
            reserve: None,
            admission: None,
            tls: None,
            client_tls: ClientTls::default(),
            counters: Arc::default(),
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

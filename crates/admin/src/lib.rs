//! The admin server of a Downbeat node: a status page, Prometheus metrics, and `/ready`.
//!
//! [`Admin`] reads the statistics of a [`Node`]. [`Admin::listen`] opens a port with the status
//! page, `/metrics`, `/status.json`, `/ready` and `/health`; [`PublicRoutes`] adds the short form
//! of `/ready` to the public port. `docs/metrics.md` lists the metrics.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use downbeat_admin::{Admin, ServerInfo, SharedNode, Sources};
//! use downbeat_node::Node;
//! use downbeat_storage::MemoryStorage;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = SharedNode::default();
//! *node.write().await = Some(Node::builder(MemoryStorage::new()).start()?);
//! let info = ServerInfo { url: "ws://127.0.0.1:4200".to_owned(), ..ServerInfo::default() };
//! let admin = Arc::new(Admin::new(Sources::new(node), info));
//! let server = admin.listen("127.0.0.1:4201".parse()?, &[], None).await?;
//! tokio::spawn(admin.keep_history());
//! server.run().await;
//! # Ok(())
//! # }
//! ```

mod exposition;
mod history;
mod http;
mod metrics;
mod process;
mod status;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use downbeat_node::{Node, NodeError, Stats};
use downbeat_transport::TransportCounters;
use downbeat_transport::net::{ReceiveBudget, SpareFiles};
use downbeat_transport::tls::TlsReloader;
use downbeat_transport_ws::{RouteRequest, RouteResponse, Routes};
use tokio::sync::RwLock;

use exposition::Format;
use history::History;
use metrics::Snapshot;

pub use http::AdminServer;

/// The time limit of an answer: twice the time that a node allows its storage for a health check.
const ANSWER_TIME: Duration = Duration::from_secs(5);

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The running node. `None` before it starts and after its shutdown has begun.
pub type SharedNode = Arc<RwLock<Option<Node>>>;

/// The configuration of the server, as the status page shows it.
#[derive(Debug, Clone, Default)]
pub struct ServerInfo {
    /// The URL for clients.
    pub url: String,
    /// The storage: `sled:DIR`.
    pub storage: String,
    /// When content is acknowledged: `safe` or `relaxed`.
    pub durability: &'static str,
    /// The access mode: `open`, `keys` or `accounts`.
    pub access: &'static str,
    /// Whether the public port uses TLS.
    pub encrypted: bool,
}

/// The sources of the metrics.
#[non_exhaustive]
pub struct Sources {
    /// The node.
    pub node: SharedNode,
    /// The counters of the public listener.
    pub transport: Arc<TransportCounters>,
    /// The memory for messages that the listeners have received in part.
    pub receive_budget: Arc<ReceiveBudget>,
    /// The certificate of the public listener, with TLS.
    pub certificate: Option<TlsReloader>,
    /// Returns the number of log lines that were dropped.
    pub dropped_log_lines: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Sources {
    /// The metrics of a node alone.
    pub fn new(node: SharedNode) -> Self {
        Self {
            node,
            transport: Arc::default(),
            receive_budget: Arc::default(),
            certificate: None,
            dropped_log_lines: Box::new(|| 0),
        }
    }
}

/// Answers the requests on the admin port.
pub struct Admin {
    sources: Sources,
    info: ServerInfo,
    started: SystemTime,
    history: Mutex<History>,
}

/// Why there are no statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unavailable {
    Stopped,
    Silent,
}

impl Admin {
    /// An admin server for these sources.
    pub fn new(sources: Sources, info: ServerInfo) -> Self {
        Self { sources, info, started: SystemTime::now(), history: Mutex::default() }
    }

    /// Opens the admin port. Requests must name it by an address, `localhost`, or one of these host
    /// names. `reserve` holds spare file descriptors for the time when no others are left.
    pub async fn listen(
        self: &Arc<Self>,
        address: SocketAddr,
        names: &[String],
        reserve: Option<Arc<SpareFiles>>,
    ) -> std::io::Result<AdminServer> {
        AdminServer::bind(address, names, Arc::clone(self), reserve).await
    }

    /// Samples the statistics every two seconds, so that the status page shows the past when it is
    /// opened. Never returns.
    pub async fn keep_history(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(history::PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(stats) = self.stats().await {
                let now = millis(SystemTime::now());
                let sample = history::Sample::new(now, &stats);
                self.history().add(sample);
            }
        }
    }

    /// Answers a GET request. `accept` holds the values of the `Accept` headers.
    async fn respond(&self, path: &str, query: Option<&str>, accept: &str) -> RouteResponse {
        match path {
            "/" => asset("text/html; charset=utf-8", PAGE),
            "/page.css" => asset("text/css; charset=utf-8", STYLE),
            "/page.js" => asset("text/javascript; charset=utf-8", SCRIPT),
            "/health" => RouteResponse::text(200, "ok"),
            "/ready" => ready(&self.sources.node, Detail::Full).await,
            "/metrics" => self.metrics(Format::wanted(accept)).await,
            "/status.json" => self.status(query).await,
            _ => RouteResponse::text(
                404,
                "not found; this port has /, /metrics, /ready and /health\n",
            ),
        }
    }

    async fn metrics(&self, format: Format) -> RouteResponse {
        let stats = match self.stats().await {
            Ok(stats) => stats,
            Err(unavailable) => return unavailable.response(),
        };
        let ready = ready(&self.sources.node, Detail::Short).await.status == 200;
        let seconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let validity = self.sources.certificate.as_ref().and_then(TlsReloader::validity);
        let snapshot = Snapshot {
            stats,
            transport: self.sources.transport.snapshot(),
            receive_buffers: self.sources.receive_budget.used() as u64,
            ready,
            started: seconds(self.started),
            certificate_expiry: validity.map(|validity| seconds(validity.not_after)),
            dropped_log_lines: (self.sources.dropped_log_lines)(),
        };
        match metrics::render(snapshot, format) {
            Ok(text) => RouteResponse {
                status: 200,
                content_type: format.content_type(),
                body: text.into(),
            },
            Err(error) => RouteResponse::text(500, error.to_string()),
        }
    }

    async fn status(&self, query: Option<&str>) -> RouteResponse {
        let since = query.and_then(|query| query.strip_prefix("since="));
        let since = since.and_then(|since| since.parse().ok()).unwrap_or(0);
        let stats = match self.stats().await {
            Ok(stats) => stats,
            Err(unavailable) => return unavailable.response(),
        };
        let ready = ready(&self.sources.node, Detail::Full).await;
        let history = self.history();
        let value = status::Status {
            info: &self.info,
            started: self.started,
            stats: &stats,
            transport: &self.sources.transport.snapshot(),
            ready: &String::from_utf8_lossy(&ready.body),
            is_ready: ready.status == 200,
            history: &history,
            since,
        };
        RouteResponse {
            status: 200,
            content_type: "application/json",
            body: value.json().to_string().into(),
        }
    }

    /// Nothing panics while the lock is held.
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stats(&self) -> Result<Stats, Unavailable> {
        let node = self.sources.node.read().await;
        let node = node.as_ref().ok_or(Unavailable::Stopped)?;
        match tokio::time::timeout(ANSWER_TIME, node.stats()).await {
            Ok(Ok(stats)) => Ok(stats),
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) => Err(Unavailable::Silent),
        }
    }
}

impl Unavailable {
    fn response(self) -> RouteResponse {
        RouteResponse::text(503, self.text())
    }

    fn text(self) -> &'static str {
        match self {
            Self::Stopped => "the server is starting or stopping\n",
            Self::Silent => "the server does not answer\n",
        }
    }
}

fn asset(content_type: &'static str, text: &'static str) -> RouteResponse {
    RouteResponse { status: 200, content_type, body: Bytes::from_static(text.as_bytes()) }
}

/// How detailed the answer of `/ready` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Yes or no, for the public port.
    Short,
    /// With the storage error and the disconnected upstreams.
    Full,
}

/// Answers `/ready`: whether the server can store and serve content.
async fn ready(node: &SharedNode, detail: Detail) -> RouteResponse {
    let node = node.read().await;
    let asked = match node.as_ref() {
        Some(node) => tokio::time::timeout(ANSWER_TIME, node.ready()).await,
        None => Ok(Err(NodeError::ShutDown)),
    };
    let readiness = match asked {
        Ok(Ok(readiness)) => readiness,
        Ok(Err(_)) => return Unavailable::Stopped.response(),
        Err(_) => return Unavailable::Silent.response(),
    };
    let mut text = match &readiness.storage {
        Ok(()) => "ready\n".to_owned(),
        Err(_) if detail == Detail::Short => "not ready\n".to_owned(),
        Err(trouble) => match std::error::Error::source(trouble) {
            Some(source) => format!("not ready: {trouble}: {source}\n"),
            None => format!("not ready: {trouble}\n"),
        },
    };
    if detail == Detail::Full {
        let away = readiness.upstreams.iter().filter(|upstream| !upstream.connected);
        text.extend(
            away.flat_map(|upstream| {
                ["the upstream ", upstream.name.as_str(), " is not connected\n"]
            }),
        );
    }
    RouteResponse::text(if readiness.is_ready() { 200 } else { 503 }, text)
}

/// Adds `/ready` to the public port, without details.
pub struct PublicRoutes(pub SharedNode);

#[async_trait]
impl Routes for PublicRoutes {
    async fn respond(&self, request: RouteRequest<'_>) -> Option<RouteResponse> {
        match request.path {
            "/ready" => Some(ready(&self.0, Detail::Short).await),
            _ => None,
        }
    }
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::STYLE;

    /// The colours of one theme, by name.
    fn colours(theme: &str) -> Vec<(&str, [f64; 3])> {
        let block = STYLE.split_once(theme).unwrap().1.split_once('}').unwrap().0;
        let lines = block.lines().filter_map(|line| line.trim().strip_prefix("--"));
        lines
            .filter_map(|line| {
                let (name, hex) = line.trim_end_matches(';').split_once(": #")?;
                let part = |at: usize| {
                    let byte = u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap();
                    f64::from(byte) / 255.0
                };
                Some((name, [part(0), part(2), part(4)]))
            })
            .collect()
    }

    /// How light a colour is to the eye (WCAG 2.2).
    fn luminance(colour: [f64; 3]) -> f64 {
        let linear = |part: f64| {
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = colour.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn everything_on_the_page_can_be_read_in_both_themes() {
        for theme in [":root {", ":root[data-theme=\"dark\"] {"] {
            let colours = colours(theme);
            let of =
                |name: &str| luminance(colours.iter().find(|(other, _)| *other == name).unwrap().1);
            for back in ["paper", "card", "wash"] {
                for front in ["ink", "soft", "in", "out", "good", "bad", "wait"] {
                    let (one, other) = (of(back), of(front));
                    let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                    assert!(contrast >= 4.5, "{theme} {front} on {back}: {contrast:.2}");
                }
            }
        }
    }
}

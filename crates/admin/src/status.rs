//! `/status.json`: the data of the status page.

use std::time::SystemTime;

use downbeat_node::{Histogram, Stats};
use downbeat_protocol::Printable;
use downbeat_transport::TransportSnapshot;
use serde_json::{Map, Value as Json, json};

use super::history::{History, quantile};
use super::{ServerInfo, millis, process};

/// The sources of the status page.
pub(crate) struct Status<'a> {
    pub info: &'a ServerInfo,
    pub started: SystemTime,
    pub stats: &'a Stats,
    pub transport: &'a TransportSnapshot,
    pub ready: &'a str,
    pub is_ready: bool,
    pub history: &'a History,
    /// The time of the last sample that the page already has.
    pub since: u64,
}

impl Status<'_> {
    pub(crate) fn json(&self) -> Json {
        let Self { info, stats, transport, .. } = self;
        let stored = stats.stored.as_ref().map(|stored| {
            json!({
                "coValues": stored.co_values,
                "deleted": stored.deleted,
                "sessions": stored.sessions,
                "transactions": stored.transactions,
                "bytes": stored.transaction_bytes,
                "diskBytes": stored.disk_bytes,
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": millis(SystemTime::now()),
            "started": millis(self.started),
            "ready": self.is_ready,
            "readiness": self.ready.trim(),
            "url": info.url,
            "storage": info.storage,
            "durability": info.durability,
            "access": info.access,
            "encrypted": info.encrypted,
            "peers": {
                "clients": stats.peers.clients,
                "upstreams": stats.peers.upstreams,
                "local": stats.peers.local,
            },
            "received": counts(stats.received.iter()),
            "sent": counts(stats.sent.iter()),
            "frameBytes": [stats.traffic.frames_received, stats.traffic.frames_sent],
            "contentBytes": [stats.traffic.content_received, stats.traffic.content_sent],
            "rejections": counts(stats.rejections.iter()),
            "limits": counts(stats.limits.iter()),
            "memory": {
                "warm": stats.memory.warm_co_values,
                "held": stats.memory.machine.held,
                "content": stats.memory.content_bytes,
                "unverified": stats.memory.unverified_jobs,
                "unstored": stats.memory.unstored_jobs,
                "resident": process::resident_bytes(),
            },
            "stored": stored,
            "writes": counts(stats.storage.iter()),
            "latencies": {
                "verification": latency(&stats.verification),
                "append": latency(&stats.append),
                "acknowledgement": latency(&stats.acknowledgement),
            },
            "connections": {
                "open": transport.open,
                "pending": transport.pending,
                "accepted": transport.accepted,
                "refused": counts(transport.refusals()),
                "failed": counts(transport.failed_handshakes()),
            },
            "upstreams": self.upstreams(),
            "top": stats.top.iter().map(|traffic| json!({
                "id": traffic.id.to_string(),
                "bytes": traffic.bytes,
            })).collect::<Vec<_>>(),
            "keys": stats.keys.iter().map(|key| json!({
                "name": &*key.label,
                "connections": key.connections,
                "stored": key.stored_bytes,
            })).collect::<Vec<_>>(),
            "refused": self.refused(),
            "history": self.history.since(self.since),
        })
    }

    fn upstreams(&self) -> Vec<Json> {
        let upstreams = self.stats.upstreams.iter();
        upstreams
            .map(|upstream| {
                json!({
                    "name": upstream.name.as_str(),
                    "connected": upstream.connected,
                    "since": millis(upstream.since),
                    "unsynced": upstream.unsynced,
                })
            })
            .collect()
    }

    fn refused(&self) -> Vec<Json> {
        let refused = self.stats.refused.iter();
        refused
            .map(|refused| {
                json!({
                    "at": millis(refused.at),
                    "peer": refused.peer,
                    "key": refused.label.as_deref().map(printable),
                    "coValue": refused.co_value.map(|id| id.to_string()),
                    "session": refused.session.as_deref().map(printable),
                    "reason": refused.reason,
                    "detail": printable(&refused.detail),
                })
            })
            .collect()
    }
}

/// A text that a peer may have chosen.
fn printable(text: &str) -> String {
    Printable(text).to_string()
}

fn counts<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Json {
    let members = counts.into_iter().map(|(name, count)| (name.to_owned(), count.into()));
    Json::Object(members.collect::<Map<_, _>>())
}

/// The median, the 99th percentile, and the number of values since the start.
fn latency(histogram: &Histogram) -> Json {
    let none = Histogram::default();
    json!({
        "p50": quantile(histogram, &none, 0.5),
        "p99": quantile(histogram, &none, 0.99),
        "count": histogram.count,
    })
}

//! `/metrics`: the statistics of the node and the listener for Prometheus. `docs/metrics.md` lists
//! them; a test compares the two.

use std::fmt;

use downbeat_node::{EndStats, Histogram, MessageStats, Stats};
use downbeat_transport::TransportSnapshot;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::exposition::{Format, as_plain_text};
use super::process;

/// All exported values at one time.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub stats: Stats,
    pub transport: TransportSnapshot,
    pub receive_buffers: u64,
    pub ready: bool,
    /// Seconds since 1970.
    pub started: f64,
    /// Seconds since 1970, with TLS.
    pub certificate_expiry: Option<f64>,
    pub dropped_log_lines: u64,
}

/// Writes the metrics in one of the formats that Prometheus reads.
pub(crate) fn render(snapshot: Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::PlainText => as_plain_text(&text),
    })
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.server(&mut out)?;
        self.traffic(&mut out)?;
        self.refused(&mut out)?;
        self.memory(&mut out)?;
        self.storage(&mut out)?;
        self.upstreams_and_keys(&mut out)?;
        self.connections(&mut out)
    }
}

impl Snapshot {
    fn server(&self, out: &mut Out<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.info("downbeat_build", "The program", &version)?;
        out.gauge(
            "downbeat_start_time",
            "Start time of the server, in Unix time",
            SECONDS,
            self.started,
        )?;
        out.gauge("downbeat_ready", "1 if /ready answers with 200", None, u64::from(self.ready))?;
        if let Some(time) = self.certificate_expiry {
            out.gauge(
                "downbeat_certificate_expiry_time",
                "Expiry time of the certificate, in Unix time",
                SECONDS,
                time,
            )?;
        }
        out.counter(
            "downbeat_log_lines_dropped",
            "Log lines dropped because standard error was too slow or failed",
            None,
            self.dropped_log_lines,
        )?;
        if let Some(bytes) = process::resident_bytes() {
            out.gauge("process_resident_memory", "Resident memory of the process", BYTES, bytes)?;
        }
        if let Some(count) = process::open_files() {
            out.gauge("process_open_fds", "Open files and sockets of the process", None, count)?;
        }
        Ok(())
    }

    fn traffic(&self, out: &mut Out<'_>) -> fmt::Result {
        let Stats { peers, disconnects, traffic, received, sent, .. } = &self.stats;
        out.gauges(
            "downbeat_peers",
            "Connections by the role of the peer",
            None,
            "role",
            [("client", peers.clients), ("upstream", peers.upstreams), ("local", peers.local)],
        )?;
        let ended = |role, stats: &EndStats| -> Vec<_> {
            stats.iter().map(|(cause, count)| ([("role", role), ("cause", cause)], count)).collect()
        };
        let ended =
            [ended("client", &disconnects.clients), ended("upstream", &disconnects.upstreams)];
        out.family(
            "downbeat_disconnects",
            "Ended connections by the role of the peer and the cause",
            None,
            MetricType::Counter,
            ended.concat(),
        )?;
        let by_action = |direction, stats: &MessageStats| -> Vec<_> {
            stats
                .iter()
                .map(|(action, count)| ([("direction", direction), ("action", action)], count))
                .collect()
        };
        let messages = [by_action("received", received), by_action("sent", sent)].concat();
        out.family(
            "downbeat_messages",
            "Messages by direction and action",
            None,
            MetricType::Counter,
            messages,
        )?;
        out.counters(
            "downbeat_frame",
            "Bytes of frames on the wire",
            BYTES,
            "direction",
            [("received", traffic.frames_received), ("sent", traffic.frames_sent)],
        )?;
        out.counters(
            "downbeat_content",
            "Bytes of transactions in messages",
            BYTES,
            "direction",
            [("received", traffic.content_received), ("sent", traffic.content_sent)],
        )
    }

    fn refused(&self, out: &mut Out<'_>) -> fmt::Result {
        let Stats { rejections, limits, back_pressure, .. } = &self.stats;
        out.counters(
            "downbeat_rejections",
            "Refused content and requests of peers, by reason",
            None,
            "reason",
            rejections.iter(),
        )?;
        out.counters(
            "downbeat_limits",
            "How often a limit took effect",
            None,
            "limit",
            [
                ("connection_rate", limits.connection_rate),
                ("address_rate", limits.address_rate),
                ("key_rate", limits.key_rate),
                ("closed_for_rate", limits.closed_for_rate),
                ("closed_for_subscriptions", limits.closed_for_subscriptions),
                ("closed_for_strikes", limits.closed_for_strikes),
                ("closed_for_reading", limits.closed_for_reading),
                ("closed_for_memory", limits.closed_for_memory),
                ("key_quota", limits.key_quota),
                ("account_quota", limits.account_quota),
            ],
        )?;
        out.counters(
            "downbeat_held_back",
            "Time for which rate limits delayed frames",
            SECONDS,
            "limit",
            [
                ("connection_rate", seconds(limits.connection_rate_micros)),
                ("address_rate", seconds(limits.address_rate_micros)),
                ("key_rate", seconds(limits.key_rate_micros)),
            ],
        )?;
        out.counter(
            "downbeat_credit_waits",
            "Messages that waited until earlier content of the same peer was stored",
            None,
            back_pressure.credit_waits,
        )?;
        out.counter(
            "downbeat_credit_wait",
            "Time for which these messages waited",
            SECONDS,
            seconds(back_pressure.credit_wait_micros),
        )?;
        out.counter(
            "downbeat_pool_waits",
            "Messages that waited until content of all peers together was stored",
            None,
            back_pressure.pool_waits,
        )?;
        out.counter(
            "downbeat_pool_wait",
            "Time for which these messages waited",
            SECONDS,
            seconds(back_pressure.pool_wait_micros),
        )?;
        out.counter(
            "downbeat_output_waits",
            "Writes to clients that waited until others had been written",
            None,
            back_pressure.output_waits,
        )?;
        out.counter(
            "downbeat_output_wait",
            "Time for which these writes waited",
            SECONDS,
            seconds(back_pressure.output_wait_micros),
        )
    }

    fn memory(&self, out: &mut Out<'_>) -> fmt::Result {
        let memory = &self.stats.memory;
        out.gauge(
            "downbeat_warm_covalues",
            "CoValues whose header and counts are in memory",
            None,
            memory.warm_co_values,
        )?;
        let machine = &memory.machine;
        out.gauges(
            "downbeat_memory",
            "Memory by its use",
            BYTES,
            "kind",
            [
                ("entries", machine.entries),
                ("headers", machine.headers),
                ("subscriptions", machine.subscriptions),
                ("claims", machine.claims),
                ("held", machine.held),
                ("batches", machine.batches),
                ("chains", machine.chains),
                ("content", memory.content_bytes),
                ("credit", memory.pooled_credit_bytes),
                ("receiving", self.receive_buffers),
            ],
        )?;
        out.gauges(
            "downbeat_waiting_jobs",
            "Runs of transactions that wait for verification or storage",
            None,
            "for",
            [("verification", memory.unverified_jobs), ("storage", memory.unstored_jobs)],
        )
    }

    fn storage(&self, out: &mut Out<'_>) -> fmt::Result {
        let Stats { storage, stored, .. } = &self.stats;
        out.counter(
            "downbeat_storage_batches",
            "Stored batches, each with at most one flush",
            None,
            storage.batches,
        )?;
        out.counter(
            "downbeat_storage_stores",
            "Runs of transactions in these batches",
            None,
            storage.stores,
        )?;
        out.counter(
            "downbeat_storage_written",
            "Transactions in these batches",
            BYTES,
            storage.bytes,
        )?;
        out.counters(
            "downbeat_storage_retries",
            "Retries after a storage failure",
            None,
            "kind",
            [("write", storage.write_retries), ("read", storage.read_retries)],
        )?;
        if let Some(stored) = stored {
            out.gauge(
                "downbeat_known_covalues",
                "CoValues in storage, including deleted ones",
                None,
                stored.co_values,
            )?;
            out.gauge(
                "downbeat_deleted_covalues",
                "Deleted CoValues in storage",
                None,
                stored.deleted,
            )?;
            out.gauge("downbeat_stored_sessions", "Sessions in storage", None, stored.sessions)?;
            out.gauge(
                "downbeat_stored_transactions",
                "Transactions in storage",
                None,
                stored.transactions,
            )?;
            out.gauge(
                "downbeat_stored",
                "Transactions in storage",
                BYTES,
                stored.transaction_bytes,
            )?;
            if let Some(bytes) = stored.disk_bytes {
                out.gauge("downbeat_disk", "Size of the store on disk", BYTES, bytes)?;
            }
        }
        let Stats { verification, append, batch_size, acknowledgement, .. } = &self.stats;
        out.histogram(
            "downbeat_verification",
            "Time from when a run of transactions was ready for verification until it was verified",
            SECONDS,
            verification,
        )?;
        out.histogram("downbeat_storage_append", "Time to store a batch", SECONDS, append)?;
        out.histogram("downbeat_acknowledgement", "Time from when a run of transactions was ready for verification until it was acknowledged", SECONDS, acknowledgement)?;
        out.histogram(
            "downbeat_batch_stores",
            "Runs of transactions in one batch",
            None,
            batch_size,
        )
    }

    fn upstreams_and_keys(&self, out: &mut Out<'_>) -> fmt::Result {
        let Stats { upstreams, keys, .. } = &self.stats;
        out.gauges(
            "downbeat_upstream_connected",
            "1 if the upstream is connected",
            None,
            "upstream",
            upstreams
                .iter()
                .map(|upstream| (upstream.name.as_str(), u64::from(upstream.connected))),
        )?;
        out.gauges(
            "downbeat_upstream_unsynced_covalues",
            "CoValues that the upstream has not fully acknowledged",
            None,
            "upstream",
            upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream.unsynced)),
        )?;
        out.gauges(
            "downbeat_key_connections",
            "Connections with an access key",
            None,
            "key",
            keys.iter().map(|key| (&*key.label, key.connections)),
        )?;
        out.gauges(
            "downbeat_key_stored",
            "Headers and transactions stored for an access key",
            BYTES,
            "key",
            keys.iter().map(|key| (&*key.label, key.stored_bytes)),
        )
    }

    fn connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let transport = &self.transport;
        out.gauge("downbeat_connections", "Connections to the public port", None, transport.open)?;
        out.gauge(
            "downbeat_handshakes_pending",
            "Handshakes in progress",
            None,
            transport.pending,
        )?;
        out.counter(
            "downbeat_connections_accepted",
            "Connections that completed their handshake",
            None,
            transport.accepted,
        )?;
        out.counters(
            "downbeat_connections_refused",
            "Refused connections, by reason",
            None,
            "reason",
            transport.refusals(),
        )?;
        out.counters(
            "downbeat_handshakes_failed",
            "Failed handshakes, by reason",
            None,
            "reason",
            transport.failed_handshakes(),
        )?;
        out.counters(
            "downbeat_bad_frames",
            "Refused frames, by reason",
            None,
            "reason",
            transport.bad_frames(),
        )?;
        out.counter(
            "downbeat_peers_lost",
            "Connections closed because the peer was silent",
            None,
            transport.peers_lost,
        )?;
        out.counter(
            "downbeat_http_requests",
            "Plain HTTP requests on the public port",
            None,
            transport.http_requests,
        )
    }
}

const BYTES: Option<&Unit> = Some(&Unit::Bytes);
const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

/// A value.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Writes metrics from plain numbers, because the library's own types are counters.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str); 1]) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Into<Number>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, [([], value.into())])
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Into<Number>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Counter, [([], value.into())])
    }

    fn gauges<'a, N: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, N)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(value, number)| ([(label, value)], number));
        self.family(name, help, unit, MetricType::Gauge, values)
    }

    fn counters<'a, N: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, N)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(value, number)| ([(label, value)], number));
        self.family(name, help, unit, MetricType::Counter, values)
    }

    /// One metric with a value for each set of labels.
    fn family<'a, const LABELS: usize, N: Into<Number>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        values: impl IntoIterator<Item = ([(&'a str, &'a str); LABELS], N)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in values {
            if LABELS == 0 {
                put(&mut metric, kind, value.into())?;
            } else {
                put(&mut metric.encode_family(&labels)?, kind, value.into())?;
            }
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        histogram: &Histogram,
    ) -> fmt::Result {
        // Our counts are cumulative; the library expects a separate count for each bucket.
        let mut before = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(histogram.bounds.len() + 1);
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            buckets.push((*bound, count.saturating_sub(before)));
            before = *count;
        }
        buckets.push((f64::INFINITY, histogram.count.saturating_sub(before)));
        self.0
            .encode_descriptor(name, help, unit, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(histogram.sum, histogram.count, &buckets, None)
    }
}

fn put(metric: &mut MetricEncoder<'_>, kind: MetricType, value: Number) -> fmt::Result {
    match (kind, value) {
        (MetricType::Counter, Number::Whole(value)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        }
        (MetricType::Counter, Number::Real(value)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        }
        (_, Number::Whole(value)) => metric.encode_gauge(&value),
        (_, Number::Real(value)) => metric.encode_gauge(&value),
    }
}

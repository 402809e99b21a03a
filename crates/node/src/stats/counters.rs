//! Where things are counted, as they happen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use downbeat_protocol::{CoValueId, Message, SessionContent, UnknownKind};
use downbeat_sync::Rejection;
use downbeat_transport::PeerInfo;
use tracing::warn;

use crate::lock::lock;
use crate::trouble::Trouble;

use super::histogram::{HistogramCells, SECONDS, SIZES};
use super::rejections::{Recent, Refused};
use super::top::Top;
use super::{
    BackPressureCells, DisconnectCells, LimitCells, MessageCells, RejectionCells, Stats,
    StorageCells, TrafficCells,
};

/// CoValues that are told of as those with the most traffic.
const TOP: usize = 20;

/// Of so many bytes of content, those with the last one are looked at to find out which CoValues
/// cause the most traffic. Small edits are many, and most need not cost anything.
const SAMPLE_BYTES: u64 = 4 << 10;

/// Everything that is counted where it happens.
pub(crate) struct Counters {
    pub disconnects: DisconnectCells,
    pub received: MessageCells,
    pub sent: MessageCells,
    pub traffic: TrafficCells,
    pub rejections: RejectionCells,
    pub limits: LimitCells,
    pub back_pressure: BackPressureCells,
    pub storage: StorageCells,
    pub verification: HistogramCells,
    pub append: HistogramCells,
    pub acknowledgement: HistogramCells,
    /// Whether storage did not take the last batch that it was given.
    pub writing_fails: AtomicBool,
    /// Storage that takes no content.
    pub writing: Trouble,
    /// Storage that cannot be read.
    pub reading: Trouble,
    batch_size: HistogramCells,
    top: Mutex<Top>,
    recent: Mutex<Recent>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            disconnects: DisconnectCells::default(),
            received: MessageCells::default(),
            sent: MessageCells::default(),
            traffic: TrafficCells::default(),
            rejections: RejectionCells::default(),
            limits: LimitCells::default(),
            back_pressure: BackPressureCells::default(),
            storage: StorageCells::default(),
            verification: HistogramCells::new(SECONDS),
            append: HistogramCells::new(SECONDS),
            acknowledgement: HistogramCells::new(SECONDS),
            writing_fails: AtomicBool::new(false),
            writing: Trouble::default(),
            reading: Trouble::default(),
            batch_size: HistogramCells::new(SIZES),
            top: Mutex::default(),
            recent: Mutex::default(),
        }
    }
}

impl Counters {
    /// A peer has sent a message.
    pub(crate) fn received(&self, message: &Message) {
        self.received.count(message);
        self.content(message, &self.traffic.content_received);
    }

    /// A peer has been sent messages, in so many bytes.
    pub(crate) fn sent(&self, messages: &[Message], bytes: usize) {
        add(&self.traffic.frames_sent, bytes as u64);
        for message in messages {
            self.sent.count(message);
            self.content(message, &self.traffic.content_sent);
        }
    }

    fn content(&self, message: &Message, cell: &AtomicU64) {
        let Message::Content(content) = message else { return };
        let bytes = content.sessions.iter().map(SessionContent::json_len).sum();
        let before = cell.fetch_add(bytes, Ordering::Relaxed);
        let steps = before.wrapping_add(bytes) / SAMPLE_BYTES - before / SAMPLE_BYTES;
        if steps > 0 {
            lock(&self.top).add(content.id, steps * SAMPLE_BYTES);
        }
    }

    /// The machine has refused something.
    pub(crate) fn rejected(&self, peer: &PeerInfo, report: &downbeat_sync::Report) {
        let cells = &self.rejections;
        let (cell, reason) = match &report.rejection {
            Rejection::BadSignature { .. } => (&cells.bad_signature, "bad_signature"),
            Rejection::Forked { .. } => (&cells.forked, "forked"),
            Rejection::HeaderMismatch { .. } => (&cells.header_mismatch, "header_mismatch"),
            Rejection::NotAnAccount => (&cells.not_an_account, "not_an_account"),
            Rejection::InvalidSigner => (&cells.invalid_signer, "invalid_signer"),
            Rejection::Malformed(_) => (&cells.malformed, "malformed"),
            Rejection::InvalidDelete(_) => (&cells.invalid_delete, "invalid_delete"),
            Rejection::Unreadable => (&cells.unreadable, "unreadable"),
            Rejection::MissingDependency(_) => (&cells.missing_dependency, "missing_dependency"),
            Rejection::HeldTooMuch => (&cells.held_too_much, "held_too_much"),
            Rejection::Errored => (&cells.errored, "errored"),
            Rejection::TooManySubscriptions => {
                (&cells.too_many_subscriptions, "too_many_subscriptions")
            }
        };
        add(cell, 1);
        let session = report.session.clone();
        self.tell(peer, Some(report.id), session, reason, report.rejection.to_string());
    }

    /// Something could not be decoded.
    pub(crate) fn undecodable(
        &self,
        peer: &PeerInfo,
        rejection: &downbeat_transport::DroppedFrame,
    ) {
        add(&self.rejections.undecodable, 1);
        self.tell(peer, None, None, "undecodable", rejection.to_string());
    }

    /// Tells the log of something that was refused, unless it has just heard the same, and keeps
    /// it for callers.
    pub(crate) fn tell(
        &self,
        peer: &PeerInfo,
        co_value: Option<CoValueId>,
        session: Option<String>,
        reason: &'static str,
        detail: String,
    ) {
        let refused = Refused {
            at: SystemTime::now(),
            peer: peer.address.clone(),
            label: peer.label.clone(),
            co_value,
            session,
            reason,
            detail,
        };
        let mut recent = lock(&self.recent);
        let Some(silent) = recent.add(refused.clone(), Instant::now()) else { return };
        drop(recent);
        warn!(
            peer = refused.peer,
            key = refused.label.as_deref(),
            co_value = refused.co_value.as_ref().map(CoValueId::as_str),
            session = refused.session,
            reason,
            silent,
            "rejected: {}",
            refused.detail
        );
    }

    /// A batch has become durable.
    pub(crate) fn stored(&self, stores: usize, bytes: u64, took: Duration) {
        add(&self.storage.batches, 1);
        add(&self.storage.stores, stores as u64);
        add(&self.storage.bytes, bytes);
        self.append.time(took);
        self.batch_size.size(stores);
    }

    /// What has been counted; the rest is the engine's to fill in.
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            disconnects: self.disconnects.snapshot(),
            received: self.received.snapshot(),
            sent: self.sent.snapshot(),
            traffic: self.traffic.snapshot(),
            rejections: self.rejections.snapshot(),
            limits: self.limits.snapshot(),
            back_pressure: self.back_pressure.snapshot(),
            storage: self.storage.snapshot(),
            verification: self.verification.snapshot(),
            append: self.append.snapshot(),
            batch_size: self.batch_size.snapshot(),
            acknowledgement: self.acknowledgement.snapshot(),
            top: lock(&self.top).first(TOP),
            refused: lock(&self.recent).latest(),
            ..Stats::default()
        }
    }
}

impl MessageCells {
    fn count(&self, message: &Message) {
        let cell = match message {
            Message::Unknown(unknown) => match unknown.kind {
                UnknownKind::Load => &self.load,
                UnknownKind::Known { .. } => &self.known,
                UnknownKind::Content => &self.content,
            },
            Message::Load(_) => &self.load,
            Message::Known(_) => &self.known,
            Message::Content(_) => &self.content,
            Message::Done(_) => &self.done,
            Message::Reconcile(_) => &self.reconcile,
            Message::ReconcileAck(_) => &self.reconcile_ack,
        };
        add(cell, 1);
    }
}

/// Counts. The numbers are independent of each other, so their order does not matter.
pub(crate) fn add(cell: &AtomicU64, count: u64) {
    cell.fetch_add(count, Ordering::Relaxed);
}

/// A time as it is counted.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::StorageStats;

    #[test]
    fn an_exporter_learns_the_names() {
        let names: Vec<_> = StorageStats::default().iter().map(|(name, _)| name).collect();
        assert_eq!(names[..2], ["batches", "stores"]);
    }
}

//! Memory for what is being written to clients.
//!
//! A client that does not read keeps the messages that are being written to it. Small ones cost
//! little; the others share a budget, and are read from storage only to be sent at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use downbeat_protocol::{Message, SessionContent, SessionCounts};
use downbeat_sync::PeerId;
use downbeat_transport::{CloseCode, CloseReason};
use rustc_hash::FxHashMap;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use tracing::warn;

use crate::byte_budget::ByteBudget;
use crate::link::{Kind, Link};
use crate::lock::lock;
use crate::stats::{Counters, add, micros};

/// Bytes that need no room: edits and acknowledgements. 10,000 clients that do not read keep
/// 160 MB.
const FREE_BYTES: u64 = 16 << 10;

/// Bytes for which a client that is read from has the stall time once more: some 50 KiB a second on
/// the wire.
const BYTES_PER_STALL: u64 = 1 << 20;

/// How often those that wait look for clients that take nothing.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// Bytes of a message beside its transactions, and of a session in it.
const MESSAGE_BYTES: u64 = 256;
const SESSION_BYTES: u64 = 256;

/// The memory, from which writers draw.
pub(crate) struct Output {
    budget: ByteBudget,
    writing: Mutex<FxHashMap<PeerId, Write>>,
    /// The peer that the last large message was written to.
    last: AtomicU64,
    /// How long a client may take for a write while others wait.
    stall: Duration,
    counters: Arc<Counters>,
}

/// A write in progress that has taken room.
struct Write {
    link: Arc<Link>,
    /// When it has taken too long.
    due: Instant,
}

/// Room for a write. `None` for writes that need none. Boxed, because it is rare, and a part of each
/// connection.
#[derive(Default)]
pub(crate) struct Room<'a>(Option<Box<Held<'a>>>);

struct Held<'a> {
    output: &'a Output,
    peer: PeerId,
    bytes: u64,
    _permit: SemaphorePermit<'a>,
}

impl Output {
    pub(crate) fn new(bytes: u64, stall: Duration, counters: Arc<Counters>) -> Self {
        let (budget, last) = (ByteBudget::new(bytes), AtomicU64::new(u64::MAX));
        Self { budget, writing: Mutex::default(), last, stall, counters }
    }

    /// Bytes that are being written at the moment.
    pub(crate) fn used(&self) -> u64 {
        self.budget.used()
    }

    /// Takes room for a write, if it needs none or there is some. Room that was taken before is
    /// used for the first write that fits.
    pub(crate) fn try_take<'a>(
        &'a self,
        room: &mut Room<'a>,
        link: &Arc<Link>,
        bytes: u64,
    ) -> bool {
        if bytes == 0 || room.0.as_ref().is_some_and(|held| held.bytes >= bytes) {
            return true;
        }
        room.give_back();
        let permit = self.budget.try_take(self.budget.share(bytes));
        permit.map(|permit| *room = self.begin(link, bytes, permit)).is_some()
    }

    /// Lets the tasks that are ready run first, if large messages are written to other peers too.
    /// The room stays taken meanwhile. Where a thousand peers get content at once, most of them
    /// wait for room, and the few that have it delay the small messages of others little.
    pub(crate) async fn take_turns(&self, link: &Link, bytes: u64) {
        if bytes > 0 && self.last.swap(link.peer.0, Ordering::Relaxed) != link.peer.0 {
            tokio::task::yield_now().await;
        }
    }

    /// Takes room for a write, when its turn comes. Meanwhile closes clients that take nothing.
    pub(crate) async fn take(&self, link: &Arc<Link>, bytes: u64) -> Room<'_> {
        let mut room = Room::default();
        if self.try_take(&mut room, link, bytes) {
            return room;
        }
        let began = Instant::now();
        let mut taking = std::pin::pin!(self.budget.take(self.budget.share(bytes)));
        let permit = loop {
            match tokio::time::timeout(STALL_CHECK, &mut taking).await {
                Ok(permit) => break permit,
                Err(_) => self.close_stalled(Instant::now()),
            }
        };
        let waits = &self.counters.back_pressure;
        add(&waits.output_waits, 1);
        add(&waits.output_wait_micros, micros(began.elapsed()));
        permit.map_or(room, |permit| self.begin(link, bytes, permit))
    }

    fn begin<'a>(&'a self, link: &Arc<Link>, bytes: u64, permit: SemaphorePermit<'a>) -> Room<'a> {
        let stalls = u32::try_from(1 + bytes / BYTES_PER_STALL).unwrap_or(u32::MAX);
        let due = Instant::now() + self.stall.saturating_mul(stalls);
        self.writing().insert(link.peer, Write { link: Arc::clone(link), due });
        Room(Some(Box::new(Held { output: self, peer: link.peer, bytes, _permit: permit })))
    }

    /// Closes the clients that have not taken what is written to them, because others wait.
    fn close_stalled(&self, now: Instant) {
        for Write { link, due } in self.writing().values() {
            if *due > now {
                continue;
            }
            let text = "reading too slowly while others wait for memory";
            if link.close(CloseReason::new(CloseCode::TryAgainLater, text)) {
                warn!(peer = %link.info.address, "closing: {text}");
                add(&self.counters.limits.closed_for_reading, 1);
            }
        }
    }

    fn writing(&self) -> MutexGuard<'_, FxHashMap<PeerId, Write>> {
        lock(&self.writing)
    }
}

impl Room<'_> {
    /// The write is done.
    pub(crate) fn give_back(&mut self) {
        self.0 = None;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.output.writing().remove(&self.peer);
    }
}

/// The room that messages to a peer take: none within the process and to upstreams, and for small
/// messages.
pub(crate) fn room_for(link: &Link, messages: &[Message]) -> u64 {
    let bytes = if matches!(link.kind, Kind::Client) { bytes_of(messages) } else { 0 };
    if bytes <= FREE_BYTES { 0 } else { bytes }
}

/// The memory that messages take while they are written: as they are, and encoded.
fn bytes_of(messages: &[Message]) -> u64 {
    let bytes = |message: &Message| match message {
        Message::Content(content) => {
            let sessions = content.sessions.len() as u64 * SESSION_BYTES;
            let header = content.header.as_ref().map_or(0, |header| header.json().len() as u64);
            let json: u64 = content.sessions.iter().map(SessionContent::json_len).sum();
            let expected = content.expect_content_until.as_ref().map_or(0, SessionCounts::len);
            2 * (json + header) + sessions + expected as u64 * SESSION_BYTES
        }
        Message::Load(state) => state.sessions.len() as u64 * SESSION_BYTES,
        Message::Known(known) => known.state.sessions.len() as u64 * SESSION_BYTES,
        Message::Reconcile(reconcile) => reconcile.values.len() as u64 * MESSAGE_BYTES,
        Message::Done(_) | Message::ReconcileAck(_) | Message::Unknown(_) => 0,
    };
    messages.iter().map(|message| MESSAGE_BYTES + bytes(message)).sum()
}

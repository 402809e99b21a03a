//! Holding clients to their rates, by reading nothing for a while.

use std::time::Duration;

use downbeat_protocol::{Message, SessionContent};
use downbeat_sync::cost;
use downbeat_transport::{CloseCode, CloseReason, Incoming};
use tokio::time::Instant;
use tracing::warn;

use crate::context::NodeContext;
use crate::limits::{Buckets, Patience, TooLong};
use crate::link::{Kind, Link};
use crate::stats::{add, micros};

/// Holds a client to its rates, and to those that it shares with other connections.
pub(crate) struct Throttle<'a> {
    link: &'a Link,
    node: &'a NodeContext,
    own: Buckets,
    patience: Patience,
}

/// How long a frame is held back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wait {
    /// For the connection.
    own: Duration,
    /// For all connections with its address.
    address: Duration,
    /// For all connections with its key.
    key: Duration,
    /// Whether that is all the patience that is left, and not enough. The connection ends after the
    /// wait.
    pub is_last: bool,
}

impl Wait {
    pub(crate) fn is_none(&self) -> bool {
        self.longest().is_zero() && !self.is_last
    }

    fn longest(&self) -> Duration {
        self.own.max(self.address).max(self.key)
    }
}

impl<'a> Throttle<'a> {
    /// `None` for those without limits.
    pub(crate) fn new(link: &'a Link, node: &'a NodeContext) -> Option<Self> {
        let rates = node.limits.connection;
        matches!(link.kind, Kind::Client).then(|| Self {
            link,
            node,
            own: Buckets::new(rates, Instant::now()),
            patience: Patience::default(),
        })
    }

    /// Takes a frame from the rates, and the work that was done for the peer since the last one.
    pub(crate) fn take(&mut self, incoming: &Incoming) -> Wait {
        let work: u64 = incoming.messages.iter().map(cost::work).sum();
        let work = (work + incoming.rejected.len() as u64).max(1);
        let work = work.saturating_add(self.link.debts.take());
        // Where nothing is encoded, transactions are what there is to count.
        let bytes = if incoming.bytes == 0 {
            incoming.messages.iter().map(transaction_bytes).sum()
        } else {
            incoming.bytes as u64
        };
        let now = Instant::now();
        let left = self.patience.left(self.node.limits.patience, now);
        let mut wait = Wait::default();
        let taken = self.take_from_all(work, bytes, left, now, &mut wait);
        wait.is_last = taken.is_err();
        let longest = wait.longest();
        if !longest.is_zero() {
            self.patience.use_up(longest, now);
        }
        wait
    }

    /// Takes from each of the rates. The one that would have to wait for too long waits for as
    /// long as there is patience.
    fn take_from_all(
        &mut self,
        work: u64,
        bytes: u64,
        left: Duration,
        now: Instant,
        wait: &mut Wait,
    ) -> Result<(), TooLong> {
        wait.own = left;
        wait.own = self.own.take(work, bytes, left, now)?;
        if let Some(address) = &self.link.address {
            wait.address = left;
            wait.address = address.take(work, bytes, left, now)?;
        }
        if let Some(key) = &self.link.key {
            wait.key = left;
            wait.key = key.take(work, bytes, left, now)?;
        }
        Ok(())
    }

    /// Waits. An error is why the connection is to end instead.
    pub(crate) async fn hold_back(&self, wait: Wait) -> Result<(), CloseReason> {
        let limits = &self.node.counters.limits;
        for (waits, micros_cell, wait) in [
            (&limits.connection_rate, &limits.connection_rate_micros, wait.own),
            (&limits.address_rate, &limits.address_rate_micros, wait.address),
            (&limits.key_rate, &limits.key_rate_micros, wait.key),
        ] {
            if !wait.is_zero() {
                add(waits, 1);
                add(micros_cell, micros(wait));
            }
        }
        let longest = wait.longest();
        if !longest.is_zero() {
            tokio::time::sleep(longest).await;
        }
        if !wait.is_last {
            return Ok(());
        }
        add(&limits.closed_for_rate, 1);
        let patience = self.node.limits.patience;
        let text = format!("sending faster than allowed for {} s", patience.as_secs());
        warn!(peer = %self.link.info.address, "closing: {text}");
        Err(CloseReason::new(CloseCode::PolicyViolation, text))
    }
}

fn transaction_bytes(message: &Message) -> u64 {
    match message {
        Message::Content(content) => content.sessions.iter().map(SessionContent::json_len).sum(),
        _ => 0,
    }
}

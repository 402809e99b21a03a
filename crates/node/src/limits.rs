//! Limits of one connection, and of all connections that share an address or an access key.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// Size of a burst, in seconds of the rate: a client that connects sends the changes that it made
/// offline, and then little.
const BURST_SECONDS: f64 = 5.0;

/// A peer that was not held back for this long has its whole patience again.
const CALM: Duration = Duration::from_secs(10);

/// Connections that send as fast as they may, and have room in the default rates of their address.
const CONNECTIONS_OF_ADDRESS: u64 = 10;

/// Bounds on what peers may do, for [`NodeBuilder::limits`](crate::NodeBuilder::limits).
///
/// They apply to clients that connect from outside, but not to upstreams or to the program itself.
/// [`Stats::limits`](crate::Stats::limits) counts how often each limit was reached.
///
/// ```
/// use downbeat_node::{KeyLimits, NodeLimits};
///
/// let one_gibibyte = KeyLimits { stored_bytes: Some(1 << 30), ..KeyLimits::default() };
/// let limits = NodeLimits { key: one_gibibyte, ..NodeLimits::default() };
/// assert_eq!(limits.connection.bytes.map(|bytes| bytes.get()), Some(64 << 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// Rates of one connection. A connection that sends faster is read more slowly.
    ///
    /// By default 10,000 messages and 64 MiB a second: many times what an application makes, and a
    /// fraction of what the machine takes, so that a client that floods it does not delay others.
    pub connection: Rates,
    /// Rates of all connections from one IPv4 address, or from one IPv6 /64 network, together.
    /// Behind a trusted proxy the client's address counts.
    ///
    /// By default 100,000 messages and 640 MiB a second, ten times the rates of a connection: room
    /// for an office behind one address, and for a proxy that is not known as one.
    pub address: Rates,
    /// Limits of all connections with the same access key together. A key can have limits of its
    /// own ([`Node::limit_key`](crate::Node::limit_key)). There is no limit by default, because a
    /// whole application usually shares one key.
    pub key: KeyLimits,
    /// Number of CoValues that one connection may be subscribed to. A connection that asks for more
    /// is closed, because the protocol cannot end or refuse a single subscription.
    ///
    /// 1,000,000 by default, for nodes that connect as a client on behalf of all of their clients.
    /// A subscription counts as 256 bytes of memory.
    pub subscriptions: usize,
    /// How long the rates may hold a connection back without a pause of ten seconds. After that the
    /// connection is closed ([`PolicyViolation`](downbeat_transport::CloseCode::PolicyViolation)),
    /// and messages that would have to wait longer are dropped. Five minutes by default, enough to
    /// send 18 GiB.
    pub patience: Duration,
    /// Rejections of a connection that only a broken or a hostile client causes, such as bad
    /// signatures and forks, after which it is closed. Each of them counts as 1,000 messages of the
    /// rates, so that a connection gets there in more than a minute.
    ///
    /// 1,000 by default: a client with damaged data has one for each damaged CoValue.
    pub strikes: u32,
    /// Memory for received content that is not stored yet, of all peers together. Beyond a small
    /// own share (16 to 256 KiB, a 1,024th of this), and up to 8 MiB, peers draw from here. When it
    /// is used up, they are read no further until content is stored.
    ///
    /// 256 MiB by default.
    pub credit_bytes: u64,
    /// Memory for content that is being written to clients, of all of them together. Content
    /// beyond 16 KiB waits until there is room for it.
    ///
    /// 64 MiB by default, room for 30 transactions of 1 MB at the same time.
    pub output_bytes: u64,
    /// How long a client may take for 1 MiB of this memory while others wait for some. After that
    /// it is closed: it reads too slowly, or not at all.
    ///
    /// Ten seconds by default: mobile connections rarely pause for longer.
    pub stall: Duration,
}

/// Messages and bytes per second. A burst of five seconds is allowed after a pause. A connection
/// that sends more is not read until it is within its rates again.
///
/// A message that causes more work than a small one counts as several: as one for each signature
/// to check and each CoValue to look up, and for every 64 sessions of a known state, 64 KiB of
/// content and 4 KiB of stored logs that have to be read to check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Messages; `None` for no limit.
    pub messages: Option<NonZeroU64>,
    /// Bytes of frames, or of transactions on connections without encoding; `None` for no limit.
    pub bytes: Option<NonZeroU64>,
}

/// Limits of all connections with the same access key together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Their rates.
    pub rates: Rates,
    /// Quota in stored bytes of headers and transactions; `None` for no quota. Content beyond it is
    /// refused. Content that is already being stored when the quota is reached is still stored.
    pub stored_bytes: Option<u64>,
}

impl Default for NodeLimits {
    fn default() -> Self {
        let messages = NonZeroU64::new(10_000);
        let connection = Rates { messages, bytes: NonZeroU64::new(64 << 20) };
        Self {
            connection,
            address: connection.times(CONNECTIONS_OF_ADDRESS),
            key: KeyLimits::default(),
            subscriptions: 1_000_000,
            patience: Duration::from_mins(5),
            strikes: 1_000,
            credit_bytes: 256 << 20,
            output_bytes: 64 << 20,
            stall: Duration::from_secs(10),
        }
    }
}

impl Rates {
    /// The rates of so many connections together.
    fn times(self, connections: u64) -> Self {
        let connections = NonZeroU64::new(connections).unwrap_or(NonZeroU64::MIN);
        let times = |rate: NonZeroU64| rate.saturating_mul(connections);
        Self { messages: self.messages.map(times), bytes: self.bytes.map(times) }
    }
}

/// Two token buckets: one of messages, one of bytes.
#[derive(Debug)]
pub(crate) struct Buckets {
    messages: Bucket,
    bytes: Bucket,
}

impl Buckets {
    pub(crate) fn new(rates: Rates, now: Instant) -> Self {
        Self { messages: Bucket::new(rates.messages, now), bytes: Bucket::new(rates.bytes, now) }
    }

    /// Whether nothing has been taken that has not come back.
    pub(crate) fn are_full(&mut self, now: Instant) -> bool {
        self.messages.refill(now);
        self.bytes.refill(now);
        self.messages.is_full() && self.bytes.is_full()
    }

    /// Changes the rates. Tokens that have been used stay used.
    pub(crate) fn set(&mut self, rates: Rates) {
        self.messages.set(rates.messages);
        self.bytes.set(rates.bytes);
    }

    /// Takes tokens for a frame, and returns how long to wait before the frame is handed on. If
    /// that would be longer than `longest`, takes nothing and fails, so that there is never more
    /// debt than the caller has patience for.
    pub(crate) fn take(
        &mut self,
        messages: u64,
        bytes: u64,
        longest: Duration,
        now: Instant,
    ) -> Result<Duration, TooLong> {
        self.messages.refill(now);
        self.bytes.refill(now);
        let wait = self.messages.wait(messages).max(self.bytes.wait(bytes));
        if wait > longest {
            return Err(TooLong);
        }
        self.messages.take(messages);
        self.bytes.take(bytes);
        Ok(wait)
    }
}

/// Something would have to wait for longer than it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// A token bucket that may go into debt: a frame is there before its size is known.
#[derive(Debug)]
struct Bucket {
    /// Per second; `None` for no limit.
    rate: Option<f64>,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: Option<NonZeroU64>, now: Instant) -> Self {
        let mut bucket = Self { rate: None, level: 0.0, at: now };
        bucket.set(rate);
        bucket.level = bucket.burst();
        bucket
    }

    fn set(&mut self, rate: Option<NonZeroU64>) {
        self.rate = rate.map(|rate| float(rate.get()));
        self.level = self.level.min(self.burst());
    }

    fn burst(&self) -> f64 {
        self.rate.unwrap_or_default() * BURST_SECONDS
    }

    fn is_full(&self) -> bool {
        self.level >= self.burst()
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let rate = self.rate.unwrap_or_default();
        self.level = (self.level + passed * rate).min(self.burst());
    }

    /// How long taking this much would mean to wait.
    fn wait(&self, amount: u64) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let level = self.level - float(amount);
        if level < 0.0 {
            Duration::try_from_secs_f64(-level / rate).unwrap_or(Duration::MAX)
        } else {
            Duration::ZERO
        }
    }

    fn take(&mut self, amount: u64) {
        if self.rate.is_some() {
            self.level -= float(amount);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "the error beyond 2^53 does not matter")]
fn float(amount: u64) -> f64 {
    amount as f64
}

/// How long a connection has been held back.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// The beginning and the end of the current time of waiting.
    over: Option<(Instant, Instant)>,
}

impl Patience {
    /// For how long the connection may be held back from now on, of `limit` in all.
    pub(crate) fn left(&self, limit: Duration, now: Instant) -> Duration {
        limit.saturating_sub(now.saturating_duration_since(self.since(now)))
    }

    /// The connection is held back for a time from now on.
    pub(crate) fn use_up(&mut self, wait: Duration, now: Instant) {
        self.over = Some((self.since(now), now.checked_add(wait).unwrap_or(now)));
    }

    fn since(&self, now: Instant) -> Instant {
        match self.over {
            Some((since, until)) if now.saturating_duration_since(until) < CALM => since,
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(messages: u64, bytes: u64) -> Rates {
        Rates { messages: NonZeroU64::new(messages), bytes: NonZeroU64::new(bytes) }
    }

    #[test]
    fn a_burst_goes_through_and_what_follows_waits_for_its_rate() {
        let now = Instant::now();
        let mut buckets = Buckets::new(rates(10, 1_000), now);
        let mut take = |messages, bytes, now| buckets.take(messages, bytes, Duration::MAX, now);
        assert_eq!(take(50, 0, now), Ok(Duration::ZERO));
        assert_eq!(take(20, 0, now), Ok(2 * SECOND));
        // Two seconds pay the debt; the next message waits for its own place.
        assert_eq!(take(1, 0, now + 2 * SECOND), Ok(SECOND / 10));
        // The burst is back after a rest, and is no larger than before.
        let rested = now + 100 * SECOND;
        assert_eq!(take(50, 5_000, rested), Ok(Duration::ZERO));
        assert_eq!(take(0, 500, rested), Ok(SECOND / 2));
    }

    #[test]
    fn what_would_wait_for_too_long_is_not_taken() {
        let now = Instant::now();
        let mut buckets = Buckets::new(rates(10, 1_000), now);
        assert_eq!(buckets.take(70, 5_000, SECOND, now), Err(TooLong));
        assert_eq!(buckets.take(1, 1_000_000, SECOND, now), Err(TooLong));
        // Neither bucket has lost anything: others do not wait for a frame that was dropped.
        assert_eq!(buckets.take(60, 5_000, SECOND, now), Ok(SECOND));
        assert_eq!(buckets.take(1, 0, SECOND, now), Err(TooLong));
        assert_eq!(buckets.take(1, 0, SECOND, now + SECOND), Ok(SECOND / 10));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let now = Instant::now();
        let mut buckets = Buckets::new(Rates::default(), now);
        let none = Duration::ZERO;
        assert_eq!(buckets.take(u64::MAX, u64::MAX, none, now), Ok(none));
        buckets.set(rates(1, 1));
        let wait = buckets.take(1, 0, Duration::MAX, now);
        assert_eq!(wait, Ok(SECOND), "a new rate begins without a burst");
    }

    #[test]
    fn patience_ends_with_being_held_back_all_the_time_and_begins_anew_after_a_rest() {
        let now = Instant::now();
        let mut patience = Patience::default();
        let limit = 20 * SECOND;
        for second in 0..20 {
            assert_eq!(patience.left(limit, now + second * SECOND), (20 - second) * SECOND);
            patience.use_up(SECOND, now + second * SECOND);
        }
        assert_eq!(patience.left(limit, now + limit), Duration::ZERO);
        assert_eq!(patience.left(limit, now + limit + SECOND + CALM), limit);
    }
}

//! What one peer, or all peers that share an access key, may do.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// How much of a rate may be used at once, after a time of rest, in seconds: a client that connects
/// sends what it has gathered, and then little.
const BURST_SECONDS: f64 = 5.0;

/// Without being held back for this long, a peer counts as having kept to its rates again.
const CALM: Duration = Duration::from_secs(10);

/// Bounds on what peers may do, for [`NodeBuilder::limits`](crate::NodeBuilder::limits).
///
/// They hold for clients that connect from outside: not for upstreams, which were chosen, nor for
/// the program itself. Each that bites is counted in [`Stats::limits`](crate::Stats::limits).
///
/// ```
/// use downbeat_node::{KeyLimits, Limits};
///
/// let one_gibibyte = KeyLimits { stored_bytes: Some(1 << 30), ..KeyLimits::default() };
/// let limits = Limits { key: one_gibibyte, ..Limits::default() };
/// assert_eq!(limits.connection.bytes.map(|bytes| bytes.get()), Some(64 << 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What one connection may send. Beyond that it is read more slowly.
    ///
    /// By default 10,000 messages and 64 MiB a second: many times what an application makes, and a
    /// fraction of what the machine takes, so that a client that floods it does not delay others.
    pub connection: Rates,
    /// What all connections with the same access key may do together, where nothing else was said
    /// of that key ([`Node::limit_key`](crate::Node::limit_key)). By default there is no limit: a
    /// key is usually that of a whole application.
    pub key: KeyLimits,
    /// CoValues that one connection may be subscribed to. One that asks for more is closed, because
    /// the protocol has no other way to end subscriptions, nor to refuse one.
    ///
    /// By default 1,000,000, which is for a node that connects as a client for all of its own. A
    /// subscription takes some 200 bytes of memory.
    pub subscriptions: usize,
    /// How long a connection may be held back by its rates, or by those of its key, without ten
    /// seconds of rest. Then it is closed, and what would have had to wait for longer is dropped
    /// ([`PolicyViolation`](downbeat_transport::CloseCode::PolicyViolation)). By default five
    /// minutes, in which 18 GiB can be sent.
    pub patience: Duration,
}

/// What may be sent in a second. Five times as much may come at once after a time of rest; what is
/// beyond that waits, because it is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Messages; `None` for as many as come.
    pub messages: Option<NonZeroU64>,
    /// Bytes of frames (of transactions, where nothing is encoded); `None` for as many as come.
    pub bytes: Option<NonZeroU64>,
}

/// What all connections with the same access key may do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// What they may send.
    pub rates: Rates,
    /// Bytes of headers and transactions that may be stored for them; `None` for as many as come.
    /// Content beyond that is refused. What was under way when the limit was reached is stored all
    /// the same.
    pub stored_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection: Rates {
                messages: NonZeroU64::new(10_000),
                bytes: NonZeroU64::new(64 << 20),
            },
            key: KeyLimits::default(),
            subscriptions: 1_000_000,
            patience: Duration::from_mins(5),
        }
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

    /// The rates from now on. What has been used stays used.
    pub(crate) fn set(&mut self, rates: Rates) {
        self.messages.set(rates.messages);
        self.bytes.set(rates.bytes);
    }

    /// Takes what has come, and tells how long to wait before it is handed on. What would wait for
    /// longer than `longest` is not to be handed on, and nothing is taken for it: so there is never
    /// more debt than the caller has patience for.
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

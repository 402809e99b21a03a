//! Connection limits, in total and per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::counters::TransportCounters;

/// Connections in total. An idle WebSocket costs 10 to 18 KiB of memory in the whole server, so
/// these fit on any server; the process needs a file descriptor for each.
const DEFAULT_TOTAL: usize = 20_000;
/// Connections from one address. A school or an office behind one address has hundreds of clients,
/// and each may have several tabs open.
const DEFAULT_PER_ADDRESS: usize = 1_000;
/// Pending handshakes. Each holds a socket and at most a few tens of KiB, and ends within the
/// handshake timeout.
const DEFAULT_PENDING: usize = 1_024;
/// Pending handshakes per address. The clients of an office that reconnect together after a restart
/// fit, because handshakes take milliseconds; and one address cannot displace the others.
const DEFAULT_PENDING_PER_ADDRESS: usize = 256;
/// Genuine handshakes take longer than this only on a very bad network.
const DEFAULT_DISPLACE_AFTER: Duration = Duration::from_secs(2);

/// Limits on the connections of a listener.
///
/// Later versions may add fields: start from the default, as in
/// `ConnectionLimits { total: 100, ..ConnectionLimits::default() }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Established connections in total.
    pub total: usize,
    /// Established connections from one IPv4 address or one IPv6 /64 network. Behind a trusted
    /// proxy the client's address counts.
    pub per_address: usize,
    /// Pending handshakes. At this limit a new connection displaces a handshake that is older than
    /// [`displace_after`](Self::displace_after), or waits in the system's queue if all are younger.
    pub pending: usize,
    /// The share of one address in the pending handshakes. An address may exceed its share until
    /// `pending` is reached; then its old handshakes are displaced before those of others. Trusted
    /// proxies are exempt.
    pub pending_per_address: usize,
    /// The age after which a new connection may displace a handshake. Genuine ones take
    /// milliseconds, so an older one is probably idle on purpose.
    pub displace_after: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total: DEFAULT_TOTAL,
            per_address: DEFAULT_PER_ADDRESS,
            pending: DEFAULT_PENDING,
            pending_per_address: DEFAULT_PENDING_PER_ADDRESS,
            displace_after: DEFAULT_DISPLACE_AFTER,
        }
    }
}

/// An address for limits: an IPv4 address, or the first 64 bits of an IPv6 address, which is what
/// a provider gives to one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum AddressKey {
    /// An IPv4 address, or an IPv6 address that maps to one.
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6([u16; 4]),
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Counts the connections of one listener, or of several that share it, and applies the limits on
/// established connections.
///
/// ```
/// use downbeat_transport::net::{ConnectionLimiter, ConnectionLimits};
///
/// // At most 1,000 connections on all ports together.
/// let limits = ConnectionLimits { total: 1_000, ..ConnectionLimits::default() };
/// let limiter = ConnectionLimiter::new(limits);
/// # let _ = limiter;
/// ```
#[derive(Debug)]
pub struct ConnectionLimiter {
    limits: ConnectionLimits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<AddressKey, usize>,
}

/// The limit that a connection would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitReached {
    Total,
    Address,
}

/// One counted connection; released when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    limiter: Arc<ConnectionLimiter>,
    counters: Arc<TransportCounters>,
    key: AddressKey,
}

impl ConnectionLimiter {
    /// Applies the limits on established connections, `total` and `per_address`.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default() })
    }

    /// Counts a connection from this address, or refuses it. The counters belong to its listener.
    pub(super) fn acquire(
        self: &Arc<Self>,
        address: IpAddr,
        counters: &Arc<TransportCounters>,
    ) -> Result<ConnectionSlot, LimitReached> {
        let key = AddressKey::from(address);
        let mut counts = self.lock();
        if counts.total >= self.limits.total {
            counters.refused_full.increment();
            return Err(LimitReached::Total);
        }
        let count = counts.by_address.entry(key).or_default();
        if *count >= self.limits.per_address {
            if *count == 0 {
                counts.by_address.remove(&key);
            }
            counters.refused_address.increment();
            return Err(LimitReached::Address);
        }
        *count += 1;
        counts.total += 1;
        counters.open.increment();
        Ok(ConnectionSlot { limiter: Arc::clone(self), counters: Arc::clone(counters), key })
    }

    /// Nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut counts = self.limiter.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.by_address.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_address.remove(&self.key);
            }
        }
        self.counters.open.decrement();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Limiter {
        limiter: Arc<ConnectionLimiter>,
        counters: Arc<TransportCounters>,
    }

    impl Limiter {
        fn acquire(&self, address: IpAddr) -> Result<ConnectionSlot, LimitReached> {
            self.limiter.acquire(address, &self.counters)
        }
    }

    fn limiter(total: usize, per_address: usize) -> Limiter {
        let limits = ConnectionLimits { total, per_address, ..ConnectionLimits::default() };
        Limiter { limiter: ConnectionLimiter::new(limits), counters: Arc::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_own_limit_and_a_released_slot_can_be_taken() {
        let limiter = limiter(10, 2);
        let first = limiter.acquire(ip("192.0.2.1")).unwrap();
        let _second = limiter.acquire(ip("192.0.2.1")).unwrap();
        assert_eq!(limiter.acquire(ip("192.0.2.1")).err(), Some(LimitReached::Address));
        let _other = limiter.acquire(ip("192.0.2.2")).unwrap();
        drop(first);
        let _third = limiter.acquire(ip("192.0.2.1")).unwrap();
        assert_eq!(limiter.counters.open.get(), 3);
        assert_eq!(limiter.counters.refused_address.get(), 1);
    }

    #[test]
    fn the_total_limit_comes_first() {
        let limiter = limiter(2, 1);
        let _first = limiter.acquire(ip("192.0.2.1")).unwrap();
        let _second = limiter.acquire(ip("192.0.2.2")).unwrap();
        assert_eq!(limiter.acquire(ip("192.0.2.1")).err(), Some(LimitReached::Total));
        assert_eq!(limiter.counters.refused_full.get(), 1);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_an_embedded_ipv4_address_as_itself() {
        let limiter = limiter(10, 1);
        let _v6 = limiter.acquire(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(limiter.acquire(ip("2001:db8:0:1:ffff::2")).err(), Some(LimitReached::Address));
        let _next = limiter.acquire(ip("2001:db8:0:2::1")).unwrap();
        let _v4 = limiter.acquire(ip("192.0.2.1")).unwrap();
        assert_eq!(limiter.acquire(ip("::ffff:192.0.2.1")).err(), Some(LimitReached::Address));
    }

    #[test]
    fn addresses_without_connections_use_no_memory() {
        let limiter = limiter(10, 0);
        assert_eq!(limiter.acquire(ip("192.0.2.1")).err(), Some(LimitReached::Address));
        assert!(limiter.limiter.lock().by_address.is_empty());
        let limiter = self::limiter(10, 5);
        drop(limiter.acquire(ip("192.0.2.1")).unwrap());
        assert!(limiter.limiter.lock().by_address.is_empty());
    }
}

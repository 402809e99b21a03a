//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::counters::TransportCounters;

/// Connections in all. Idle WebSockets cost 10 to 18 KiB of memory each in the whole server, so these
/// fit where a server fits; a process needs as many descriptors.
const DEFAULT_TOTAL: usize = 20_000;
/// Connections from one address. A school or an office behind one address has hundreds of clients,
/// and each may have several tabs open.
const DEFAULT_PER_ADDRESS: usize = 1_000;
/// Handshakes under way. Each holds a socket and at most a few tens of KiB, and is over within the
/// handshake's time limit.
const DEFAULT_PENDING: usize = 1_024;
/// Handshakes under way from one address: an office that comes back all at once after a restart
/// passes, as handshakes take milliseconds; and one address cannot push the others out.
const DEFAULT_PENDING_PER_ADDRESS: usize = 256;

/// Real handshakes that take longer than this are those of a very bad network.
const DEFAULT_DISPLACE_AFTER: Duration = Duration::from_secs(2);

/// How many connections a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Established connections in all.
    pub total: usize,
    /// Established connections from one address: an IPv4 address or the /64 of an IPv6 one. Behind
    /// a trusted proxy it is the client's address that counts.
    pub per_address: usize,
    /// Connections whose handshake is under way. When there are as many, one that is older than
    /// [`displace_after`](Self::displace_after) is given up for the next; while there is none, the
    /// next waits in the system's queue.
    pub pending: usize,
    /// The share of one address of those. It may have more while there is room; when there is none,
    /// old handshakes of addresses with more than their share are given up before those of others.
    /// Trusted proxies are not held to it.
    pub pending_per_address: usize,
    /// The age from which on a handshake may be given up for another: real ones take a moment, so
    /// it is likely to be idle on purpose.
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

/// What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 one, which are what
/// one customer of a network gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressKey {
    /// An IPv4 address, also when it came as an IPv6 one that stands for it.
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

/// Counts the connections of a listener and lets no more in than allowed.
#[derive(Debug)]
pub struct Gate {
    limits: ConnectionLimits,
    counters: Arc<TransportCounters>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_address: HashMap<AddressKey, usize>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many connections as are allowed.
    Total,
    /// There are as many from this address as are allowed.
    Address,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    key: AddressKey,
}

impl Gate {
    /// Nobody is inside. The counters are told of who is refused, and how many are inside.
    pub fn new(limits: ConnectionLimits, counters: Arc<TransportCounters>) -> Arc<Self> {
        Arc::new(Self { limits, counters, inside: Mutex::default() })
    }

    /// A place for a connection from this address, if there is one.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let key = AddressKey::from(address);
        let mut inside = self.lock();
        if inside.total >= self.limits.total {
            self.counters.refused_full.increment();
            return Err(Full::Total);
        }
        let count = inside.by_address.entry(key).or_default();
        if *count >= self.limits.per_address {
            if *count == 0 {
                inside.by_address.remove(&key);
            }
            self.counters.refused_address.increment();
            return Err(Full::Address);
        }
        *count += 1;
        inside.total += 1;
        self.counters.open.increment();
        Ok(Place { gate: Arc::clone(self), key })
    }

    /// Nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.gate.lock();
        inside.total = inside.total.saturating_sub(1);
        if let Some(count) = inside.by_address.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inside.by_address.remove(&self.key);
            }
        }
        self.gate.counters.open.decrement();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(total: usize, per_address: usize) -> Arc<Gate> {
        let limits = ConnectionLimits { total, per_address, ..ConnectionLimits::default() };
        Gate::new(limits, Arc::default())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_own_limit_and_a_place_given_back_can_be_taken() {
        let gate = gate(10, 2);
        let first = gate.enter(ip("192.0.2.1")).unwrap();
        let _second = gate.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(gate.enter(ip("192.0.2.1")).err(), Some(Full::Address));
        let _other = gate.enter(ip("192.0.2.2")).unwrap();
        drop(first);
        let _third = gate.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(gate.counters.open.get(), 3);
        assert_eq!(gate.counters.refused_address.get(), 1);
    }

    #[test]
    fn the_limit_in_all_comes_first() {
        let gate = gate(2, 1);
        let _first = gate.enter(ip("192.0.2.1")).unwrap();
        let _second = gate.enter(ip("192.0.2.2")).unwrap();
        assert_eq!(gate.enter(ip("192.0.2.1")).err(), Some(Full::Total));
        assert_eq!(gate.counters.refused_full.get(), 1);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_an_embedded_ipv4_address_as_itself() {
        let gate = gate(10, 1);
        let _v6 = gate.enter(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(gate.enter(ip("2001:db8:0:1:ffff::2")).err(), Some(Full::Address));
        let _next = gate.enter(ip("2001:db8:0:2::1")).unwrap();
        let _v4 = gate.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(gate.enter(ip("::ffff:192.0.2.1")).err(), Some(Full::Address));
    }

    #[test]
    fn nothing_is_kept_of_addresses_that_are_not_inside() {
        let gate = gate(10, 0);
        assert_eq!(gate.enter(ip("192.0.2.1")).err(), Some(Full::Address));
        assert!(gate.lock().by_address.is_empty());
        let gate = self::gate(10, 5);
        drop(gate.enter(ip("192.0.2.1")).unwrap());
        assert!(gate.lock().by_address.is_empty());
    }
}

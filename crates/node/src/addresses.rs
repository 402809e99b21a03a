//! The rates that all connections of one address share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::limits::{Buckets, Rates, TooLong};
use crate::lock::lock;
use crate::source::Source;

/// Addresses that are known before those without connections are looked for. An entry has some
/// 200 bytes.
const FIRST_SWEEP: usize = 1_024;

/// The addresses of the connected clients, and of those that left a moment ago: a client that
/// reconnects has used up what it had used up before.
pub(crate) struct Addresses {
    rates: Rates,
    known: Mutex<Known>,
}

struct Known {
    addresses: FxHashMap<IpAddr, Arc<Address>>,
    /// The number of addresses at which those that are at rest are forgotten.
    sweep_at: usize,
}

/// The rates of one address.
pub(crate) struct Address {
    buckets: Mutex<Buckets>,
}

impl Addresses {
    pub(crate) fn new(rates: Rates) -> Self {
        let known = Known { addresses: FxHashMap::default(), sweep_at: FIRST_SWEEP };
        Self { rates, known: Mutex::new(known) }
    }

    /// The address of a source, if it has one and there are rates.
    pub(crate) fn get(&self, source: Source) -> Option<Arc<Address>> {
        let Source::Address(address) = source else { return None };
        if self.rates == Rates::default() {
            return None;
        }
        let now = Instant::now();
        let mut known = lock(&self.known);
        if known.addresses.len() >= known.sweep_at {
            known
                .addresses
                .retain(|_, address| Arc::strong_count(address) > 1 || !address.is_rested(now));
            // Twice as many: each sweep looks at no more than twice what has come since the last.
            known.sweep_at = FIRST_SWEEP.max(2 * known.addresses.len());
        }
        let address = known.addresses.entry(address).or_insert_with(|| {
            let buckets = Mutex::new(Buckets::new(self.rates, now));
            Arc::new(Address { buckets })
        });
        Some(Arc::clone(address))
    }
}

impl Address {
    /// Takes what has come from the rates, and returns how long to wait, if that is not longer
    /// than this.
    pub(crate) fn take(
        &self,
        messages: u64,
        bytes: u64,
        longest: Duration,
        now: Instant,
    ) -> Result<Duration, TooLong> {
        lock(&self.buckets).take(messages, bytes, longest, now)
    }

    /// Whether the whole burst is there again.
    fn is_rested(&self, now: Instant) -> bool {
        lock(&self.buckets).are_full(now)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const TEN_MESSAGES: Rates = Rates { messages: NonZeroU64::new(10), bytes: None };

    fn address(number: u32) -> Source {
        Source::Address(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn who_reconnects_has_used_up_what_it_had_used_up() {
        let addresses = Addresses::new(TEN_MESSAGES);
        let now = Instant::now();
        let take = |number| {
            let address = addresses.get(address(number)).unwrap();
            address.take(50, 0, Duration::MAX, now).unwrap()
        };
        assert_eq!(take(1), Duration::ZERO);
        assert!(take(1) > Duration::from_secs(4));
        assert_eq!(take(2), Duration::ZERO);
    }

    #[test]
    fn without_rates_nothing_is_shared() {
        assert!(Addresses::new(Rates::default()).get(address(1)).is_none());
    }

    #[test]
    fn addresses_that_rest_are_forgotten() {
        let addresses = Addresses::new(TEN_MESSAGES);
        let kept = addresses.get(address(0)).unwrap();
        for number in 1..100_000 {
            addresses.get(address(number));
        }
        let known = lock(&addresses.known);
        assert!(known.addresses.len() <= 2 * FIRST_SWEEP, "{}", known.addresses.len());
        assert!(known.addresses.values().any(|address| Arc::ptr_eq(address, &kept)));
    }
}

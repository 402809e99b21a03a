//! Pending handshakes, by age and by address.

use std::collections::{HashMap, VecDeque};

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::net::limiter::AddressKey;

/// Pending handshakes by age. Finished ones are removed lazily: at the front, and when there are
/// many.
#[derive(Debug, Default)]
pub(super) struct PendingHandshakes {
    by_age: VecDeque<Handshake>,
    by_address: HashMap<AddressKey, usize>,
}

#[derive(Debug)]
struct Handshake {
    /// `None` for a trusted proxy, which connects for many clients.
    address: Option<AddressKey>,
    since: Instant,
    handle: AbortHandle,
}

impl PendingHandshakes {
    pub(super) fn add(&mut self, address: Option<AddressKey>, handle: AbortHandle) {
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.by_age.push_back(Handshake { address, since: Instant::now(), handle });
    }

    /// The start of the oldest handshake.
    pub(super) fn oldest(&mut self) -> Option<Instant> {
        while let Some(done) = self.by_age.pop_front_if(|oldest| oldest.handle.is_finished()) {
            self.uncount(done.address);
        }
        self.by_age.front().map(|oldest| oldest.since)
    }

    /// Whether an address has at least this many pending handshakes.
    pub(super) fn has(&mut self, address: AddressKey, max: usize) -> bool {
        // Finished handshakes count until they are removed.
        if self.count(address) >= max {
            self.prune();
        }
        self.count(address) >= max
    }

    /// Removes finished handshakes once there are as many of them as may be pending. Without this
    /// those in the middle would stay as long as the oldest.
    pub(super) fn prune_beyond(&mut self, max: usize) {
        if self.by_age.len() >= 2 * max {
            self.prune();
        }
    }

    /// Aborts the oldest handshake that began before this time and whose address fits. Returns
    /// whether there was one.
    pub(super) fn displace(
        &mut self,
        before: Instant,
        fits: impl Fn(&HashMap<AddressKey, usize>, Option<AddressKey>) -> bool,
    ) -> bool {
        let old = self.by_age.iter().take_while(|handshake| handshake.since <= before);
        let fitting = |handshake: &Handshake| {
            !handshake.handle.is_finished() && fits(&self.by_address, handshake.address)
        };
        let Some(position) = old.enumerate().find_map(|(at, one)| fitting(one).then_some(at))
        else {
            return false;
        };
        let Some(displaced) = self.by_age.remove(position) else { return false };
        self.uncount(displaced.address);
        displaced.handle.abort();
        true
    }

    fn count(&self, address: AddressKey) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    fn prune(&mut self) {
        self.by_address.clear();
        self.by_age.retain(|handshake| {
            let is_pending = !handshake.handle.is_finished();
            if let Some(address) = handshake.address.filter(|_| is_pending) {
                *self.by_address.entry(address).or_default() += 1;
            }
            is_pending
        });
    }

    fn uncount(&mut self, address: Option<AddressKey>) {
        let Some(address) = address else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

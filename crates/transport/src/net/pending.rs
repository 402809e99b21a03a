//! Handshakes under way, by age and by address.

use std::collections::{HashMap, VecDeque};

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::net::AddressKey;

/// The handshakes by age; those done are taken out when the oldest are looked at, and when there are
/// many.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_age: VecDeque<Handshake>,
    by_address: HashMap<AddressKey, usize>,
}

#[derive(Debug)]
struct Handshake {
    /// `None` for a proxy, whose handshakes are those of many clients.
    address: Option<AddressKey>,
    since: Instant,
    handle: AbortHandle,
}

impl Pending {
    pub(super) fn add(&mut self, address: Option<AddressKey>, handle: AbortHandle) {
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.by_age.push_back(Handshake { address, since: Instant::now(), handle });
    }

    /// When the oldest handshake has begun.
    pub(super) fn oldest(&mut self) -> Option<Instant> {
        while let Some(done) = self.by_age.pop_front_if(|oldest| oldest.handle.is_finished()) {
            self.uncount(done.address);
        }
        self.by_age.front().map(|oldest| oldest.since)
    }

    /// Whether an address has this many handshakes under way.
    pub(super) fn has(&mut self, address: AddressKey, max: usize) -> bool {
        // Those that are done are counted until they are forgotten.
        if self.count(address) >= max {
            self.forget_finished();
        }
        self.count(address) >= max
    }

    /// Takes out those done in the middle once they are as many as may be pending: they would
    /// otherwise stay as long as the oldest.
    pub(super) fn forget_finished_beyond(&mut self, max: usize) {
        if self.by_age.len() >= 2 * max {
            self.forget_finished();
        }
    }

    /// Gives up the oldest handshake that has begun before this moment and whose address fits.
    /// Whether there was one.
    pub(super) fn give_up(
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
        let Some(given_up) = self.by_age.remove(position) else { return false };
        self.uncount(given_up.address);
        given_up.handle.abort();
        true
    }

    fn count(&self, address: AddressKey) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    fn forget_finished(&mut self) {
        self.by_address.clear();
        self.by_age.retain(|handshake| {
            let under_way = !handshake.handle.is_finished();
            if let Some(address) = handshake.address.filter(|_| under_way) {
                *self.by_address.entry(address).or_default() += 1;
            }
            under_way
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

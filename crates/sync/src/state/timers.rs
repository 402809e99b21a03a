//! The table of timers.

use std::collections::BTreeSet;

use downbeat_protocol::CoValueId;

use crate::event::Millis;

/// Something of a CoValue that is due at a time. Timers of one CoValue with the same time expire
/// in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Ask storage again, after it could not answer.
    StorageRetry,
    /// Give up content whose dependencies have not arrived.
    HeldContent,
    /// Stop waiting for an upstream's answer to a LOAD.
    UpstreamAnswer,
    /// Send a correction that had to wait.
    Correction,
}

/// All timers that are set. One that is no longer needed expires without effect: its handler looks
/// at the state of that moment.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Millis, CoValueId, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, id: CoValueId, at: Millis) {
        self.by_time.insert((at, id, timer));
    }

    /// The time of the next timer.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, ..)| *at)
    }

    /// Takes out the first timer whose time has come.
    pub(crate) fn expire(&mut self, now: Millis) -> Option<(Timer, CoValueId)> {
        let (at, id, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        Some((timer, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_expire_in_the_order_of_their_times() {
        let id = CoValueId::from_short_hash(&[1; 19]);
        let mut timers = Timers::default();
        timers.set(Timer::HeldContent, id, 20);
        timers.set(Timer::Correction, id, 10);
        timers.set(Timer::StorageRetry, id, 20);
        timers.set(Timer::StorageRetry, id, 20);
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.expire(9), None);
        let expired: Vec<_> = std::iter::from_fn(|| timers.expire(20)).collect();
        let order = [Timer::Correction, Timer::StorageRetry, Timer::HeldContent];
        assert_eq!(expired, order.map(|timer| (timer, id)));
        assert_eq!(timers.next(), None);
    }
}

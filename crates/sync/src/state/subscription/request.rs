//! Whether a peer has been asked for a CoValue.

use std::num::NonZeroU16;

use crate::event::Millis;

/// How many minutes an upstream that was asked for a CoValue is not asked again. This is longer
/// than a LOAD needs for one round in any ring of nodes, so that a LOAD that comes back ends
/// there. It is not for ever, because an upstream may get the CoValue without telling.
const MINUTES_BETWEEN_REQUESTS: u16 = 5;

/// The number of minutes that are distinguished.
const MINUTES: u16 = u16::MAX;

/// Whether a LOAD was sent to a peer, or will be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Request {
    /// No LOAD was sent; or a client has answered it, and can be asked again.
    #[default]
    None,
    /// A LOAD was sent, or waits until it may be sent. The minute is that of the last one sent;
    /// after 45 days the numbers start again.
    Made(Option<NonZeroU16>),
}

impl Request {
    /// A LOAD is due, though it may have to wait.
    pub(crate) fn wanted(self) -> Self {
        match self {
            Self::None => Self::Made(None),
            made @ Self::Made(_) => made,
        }
    }

    /// A LOAD is sent.
    pub(crate) fn sent(now: Millis) -> Self {
        Self::Made(Some(minute(now)))
    }

    pub(crate) fn is_made(self) -> bool {
        self != Self::None
    }

    /// Whether a LOAD was sent so recently that no other one is needed: the peer is subscribed to,
    /// and sends what is new.
    pub(crate) fn is_recent(self, now: Millis) -> bool {
        let Self::Made(Some(sent)) = self else { return false };
        minutes_between(sent, minute(now)) < MINUTES_BETWEEN_REQUESTS
    }
}

/// The number of a minute, from 1 to [`MINUTES`].
fn minute(now: Millis) -> NonZeroU16 {
    const MILLIS: Millis = 60_000;
    let minute = u16::try_from(now / MILLIS % Millis::from(MINUTES)).unwrap_or_default();
    NonZeroU16::MIN.saturating_add(minute)
}

fn minutes_between(before: NonZeroU16, after: NonZeroU16) -> u16 {
    match after.get().checked_sub(before.get()) {
        Some(minutes) => minutes,
        None => MINUTES - before.get() + after.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_recent_for_five_minutes() {
        let sent = Request::sent(60_000);
        assert!(sent.is_recent(60_000) && sent.is_recent(5 * 60_000));
        assert!(!sent.is_recent(6 * 60_000));
        assert!(sent.wanted().is_recent(60_000), "a second one that waits changes nothing");
        assert!(!Request::None.wanted().is_recent(0));
    }

    #[test]
    fn minutes_start_again_after_the_last() {
        let last = Millis::from(MINUTES - 1) * 60_000;
        assert!(Request::sent(last).is_recent(last + 60_000));
        assert!(!Request::sent(last).is_recent(last + 6 * 60_000));
    }
}

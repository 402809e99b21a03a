//! Whether an unfinished frame still comes nearer.

use tokio::time::Instant;

/// What has to come of an unfinished frame for it not to count as stalled.
const PROGRESS_BYTES: usize = 4 << 10;

/// Keeps an eye on a peer that has begun something: whether it sends the rest in pieces worth the
/// name, of at least 4 KiB in the time that it is given.
#[derive(Debug, Default)]
pub struct Progress {
    /// Since when there is something unfinished, and how much of it has come since then.
    mark: Option<(Instant, usize)>,
}

impl Progress {
    /// Since when an unfinished frame has hardly come nearer; `None` when nothing is unfinished.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.mark.map(|(since, _)| since)
    }

    /// To be called when there is nothing more to read for now.
    pub fn waiting(&mut self, unfinished: bool) {
        if !unfinished {
            self.mark = None;
        } else if self.mark.is_none_or(|(_, bytes)| bytes >= PROGRESS_BYTES) {
            self.mark = Some((Instant::now(), 0));
        }
    }

    /// To be called when this many bytes have come.
    pub fn received(&mut self, bytes: usize) {
        if let Some((_, received)) = &mut self.mark {
            *received = received.saturating_add(bytes);
        }
    }

    /// To be called when something new has begun.
    pub fn begun(&mut self) {
        self.mark = None;
    }
}

//! Detects a peer that does not finish a frame.

use tokio::time::Instant;

/// The bytes that must arrive within the caller's time limit.
const PROGRESS_BYTES: usize = 4 << 10;

/// Measures how fast the rest of an unfinished frame arrives: a frame counts as stalled when less
/// than 4 KiB have arrived since [`stalled_since`](Self::stalled_since).
#[derive(Debug, Default)]
pub struct StallDetector {
    /// The start of the current measurement, and the bytes that have arrived since then.
    mark: Option<(Instant, usize)>,
}

impl StallDetector {
    /// The start of the current measurement; `None` if no frame is unfinished.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.mark.map(|(since, _)| since)
    }

    /// Call this when reading has to wait for the peer.
    pub fn read_pending(&mut self, unfinished: bool) {
        if !unfinished {
            self.mark = None;
        } else if self.mark.is_none_or(|(_, bytes)| bytes >= PROGRESS_BYTES) {
            self.mark = Some((Instant::now(), 0));
        }
    }

    /// Call this when bytes have arrived.
    pub fn received(&mut self, bytes: usize) {
        if let Some((_, received)) = &mut self.mark {
            *received = received.saturating_add(bytes);
        }
    }

    /// Call this when a new frame begins.
    pub fn reset(&mut self) {
        self.mark = None;
    }
}

//! Samples of the last ten minutes, for the plots of the status page.

use std::collections::VecDeque;
use std::time::Duration;

use downbeat_node::{Histogram, MessageStats, Stats};
use serde_json::{Value as Json, json};

/// The time between two samples.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);
/// The number of samples: ten minutes, about 60 KiB.
const KEPT: usize = 300;

/// The most recent samples.
#[derive(Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<Sample>,
}

/// The statistics at one time. Counters become rates when a sample is shown.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Milliseconds since 1970.
    at: u64,
    clients: u64,
    messages: [u64; 2],
    bytes: [u64; 2],
    rejections: u64,
    warm: u64,
    content_bytes: u64,
    waiting: u64,
    stores: u64,
    batches: u64,
    verification: Histogram,
    append: Histogram,
    acknowledgement: Histogram,
}

impl History {
    pub(crate) fn add(&mut self, sample: Sample) {
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The samples after a time, each with the rates and latencies since the sample before it.
    pub(crate) fn since(&self, at: u64) -> Vec<Json> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs
            .filter(|(_, sample)| sample.at > at)
            .map(|(before, sample)| sample.json(before))
            .collect()
    }
}

impl Sample {
    pub(crate) fn new(at: u64, stats: &Stats) -> Self {
        let count = |stats: &MessageStats| stats.iter().map(|(_, count)| count).sum();
        Self {
            at,
            clients: stats.peers.clients,
            messages: [count(&stats.received), count(&stats.sent)],
            bytes: [stats.traffic.frames_received, stats.traffic.frames_sent],
            rejections: stats.rejections.iter().map(|(_, count)| count).sum(),
            warm: stats.memory.warm_co_values,
            content_bytes: stats.memory.content_bytes,
            waiting: stats.memory.unverified_jobs + stats.memory.unstored_jobs,
            stores: stats.storage.stores,
            batches: stats.storage.batches,
            verification: stats.verification.clone(),
            append: stats.append.clone(),
            acknowledgement: stats.acknowledgement.clone(),
        }
    }

    fn json(&self, before: &Self) -> Json {
        #[allow(clippy::cast_precision_loss, reason = "a plot does not show the difference")]
        let rate = |now: u64, then: u64| {
            let seconds = self.at.saturating_sub(before.at).max(1) as f64 / 1_000.0;
            now.saturating_sub(then) as f64 / seconds
        };
        let latency = |now: &Histogram, then: &Histogram| {
            json!([quantile(now, then, 0.5), quantile(now, then, 0.99)])
        };
        json!({
            "at": self.at,
            "clients": self.clients,
            "messages": [rate(self.messages[0], before.messages[0]), rate(self.messages[1], before.messages[1])],
            "bytes": [rate(self.bytes[0], before.bytes[0]), rate(self.bytes[1], before.bytes[1])],
            "rejections": rate(self.rejections, before.rejections),
            "warm": self.warm,
            "contentBytes": self.content_bytes,
            "waiting": self.waiting,
            "batches": rate(self.batches, before.batches),
            "stores": rate(self.stores, before.stores),
            "verification": latency(&self.verification, &before.verification),
            "append": latency(&self.append, &before.append),
            "acknowledgement": latency(&self.acknowledgement, &before.acknowledgement),
        })
    }
}

/// A quantile of the values between two times, in seconds. Interpolates linearly within a bucket.
/// `None` if there were no values.
pub(crate) fn quantile(now: &Histogram, then: &Histogram, part: f64) -> Option<f64> {
    let before = |index: usize| then.counts.get(index).copied().unwrap_or(0);
    let total = now.count.saturating_sub(then.count);
    if total == 0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "counts of two seconds")]
    let wanted = total as f64 * part;
    let (mut lower, mut below) = (0.0, 0.0);
    for (index, (bound, count)) in now.bounds.iter().zip(&now.counts).enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "counts of two seconds")]
        let count = count.saturating_sub(before(index)) as f64;
        if count >= wanted && count > below {
            return Some(lower + (bound - lower) * (wanted - below) / (count - below));
        }
        (lower, below) = (*bound, count);
    }
    // The last bucket has no upper bound.
    now.bounds.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64], count: u64) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.bounds = &[1.0, 2.0, 4.0];
        histogram.counts = counts.to_vec();
        histogram.count = count;
        histogram
    }

    #[test]
    fn a_quantile_is_of_what_came_between_two_moments() {
        let then = histogram(&[100, 100, 100], 100);
        let now = histogram(&[100, 110, 110], 110);
        assert_eq!(quantile(&now, &then, 0.5), Some(1.5));
        assert_eq!(quantile(&now, &now, 0.5), None);
        let beyond = histogram(&[100, 110, 110], 1_000);
        assert_eq!(quantile(&beyond, &then, 0.99), Some(4.0));
        assert_eq!(quantile(&now, &Histogram::default(), 0.5), Some(0.55));
    }

    #[test]
    fn what_is_kept_is_bounded_and_only_the_new_is_told() {
        let mut history = History::default();
        for second in 0..1_000 {
            let mut stats = Stats::default();
            stats.traffic.frames_sent = second * 500;
            history.add(Sample::new(second * 1_000, &stats));
        }
        assert_eq!(history.since(0).len(), KEPT - 1);
        let last = history.since(998_000);
        assert_eq!(last.len(), 1);
        assert_eq!(last[0]["bytes"][1], 500.0);
    }
}

//! Histograms with fixed bounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a value was at most each of some bounds.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Histogram {
    /// The upper bounds, ascending; in seconds, or a number of things.
    pub bounds: &'static [f64],
    /// For each bound the number of values that were at most that.
    pub counts: Vec<u64>,
    /// The number of all values, those above the last bound among them.
    pub count: u64,
    /// The sum of all values.
    pub sum: f64,
}

/// Bounds for what takes from a fraction of a millisecond to some seconds, in seconds.
pub(crate) const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Bounds for the number of stores in one batch, which has 4,096 at most.
pub(crate) const SIZES: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0];

/// Where values are counted. They are independent of each other, so a snapshot may miss a value
/// in one place that it has in another.
pub(crate) struct HistogramCells {
    bounds: &'static [f64],
    /// For each bound the values between it and the one before; the last for what is beyond.
    cells: Box<[AtomicU64]>,
    /// In millionths, which are exact for sizes and fine enough for times.
    sum: AtomicU64,
}

impl HistogramCells {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        let cells = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, cells, sum: AtomicU64::new(0) }
    }

    pub(crate) fn time(&self, took: Duration) {
        self.add(took.as_secs_f64(), super::micros(took));
    }

    pub(crate) fn size(&self, size: usize) {
        #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
        self.add(size as f64, (size as u64).saturating_mul(1_000_000));
    }

    fn add(&self, value: f64, millionths: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(cell) = self.cells.get(bucket) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(millionths, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let mut count = 0;
        let mut counts: Vec<u64> = self
            .cells
            .iter()
            .map(|cell| {
                count += cell.load(Ordering::Relaxed);
                count
            })
            .collect();
        counts.truncate(self.bounds.len());
        #[allow(clippy::cast_precision_loss, reason = "a sum that large is told well enough")]
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1e6;
        Histogram { bounds: self.bounds, counts, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_for_every_bound_that_it_is_not_above() {
        let cells = HistogramCells::new(SIZES);
        for size in [1, 2, 3, 5_000] {
            cells.size(size);
        }
        let histogram = cells.snapshot();
        assert_eq!(histogram.counts[..3], [1, 2, 3]);
        assert_eq!((histogram.counts.last(), histogram.count), (Some(&3), 4));
        assert!((histogram.sum - 5_006.0).abs() < f64::EPSILON);
    }

    #[test]
    fn times_are_in_seconds() {
        let cells = HistogramCells::new(SECONDS);
        cells.time(Duration::from_millis(30));
        let histogram = cells.snapshot();
        let first = histogram.counts.iter().position(|count| *count == 1).unwrap();
        assert!((histogram.bounds[first] - 0.05).abs() < f64::EPSILON);
        assert!((histogram.sum - 0.03).abs() < 1e-9);
    }
}

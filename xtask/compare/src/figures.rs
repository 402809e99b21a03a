//! The figures of all rounds, and their medians.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The name of the null server in the figures.
pub(crate) const CEILING: &str = "null";

/// A report of `downbeat bench --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub unit: String,
    pub operations: f64,
    pub per_second: f64,
    pub latency: Option<Latency>,
    /// For starts: the time until the server listened.
    pub listening: Option<Latency>,
    pub server: Option<ServerCost>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerCost {
    pub cpu_per_operation: f64,
    pub resident_before: f64,
    pub resident_after: f64,
    pub resident_peak: f64,
}

/// The reports by workload and server, in the order of the rounds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Figures(BTreeMap<String, BTreeMap<String, Vec<Report>>>);

/// The median of several figures, and their spread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Median {
    pub value: f64,
    /// The difference between the largest and the smallest, relative to the median. `None` for a
    /// single figure.
    pub spread: Option<f64>,
}

impl Report {
    /// A line for the terminal.
    pub(crate) fn summary(&self) -> String {
        let rate = format!("{:.0} {}/s", self.per_second, self.unit);
        let latency = self
            .latency
            .as_ref()
            .map(|latency| format!("median {:.2} ms, 99 % {:.2} ms", latency.p50, latency.p99));
        let server = self.server.as_ref().map(|server| {
            let peak = server.resident_peak / 1e6;
            format!("{:.1} us CPU each, {peak:.0} MB", server.cpu_per_operation)
        });
        let listening =
            self.listening.as_ref().map(|listening| format!("listening {:.0} ms", listening.p50));
        [Some(rate), listening, latency, server]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Figures {
    pub(crate) fn add(&mut self, workload: &str, server: &str, report: Report) {
        let of_workload = self.0.entry(workload.to_owned()).or_default();
        of_workload.entry(server.to_owned()).or_default().push(report);
    }

    /// The median of `figure` over the reports of all rounds.
    pub(crate) fn median(
        &self,
        workload: &str,
        server: &str,
        figure: impl Fn(&Report) -> Option<f64>,
    ) -> Option<Median> {
        let reports = self.reports(workload, server)?;
        let mut values: Vec<f64> = reports.iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let value = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        let spread = (values.len() > 1).then_some((greatest - least) / value);
        Some(Median { value, spread })
    }

    pub(crate) fn throughput(&self, workload: &str, server: &str) -> Option<Median> {
        self.median(workload, server, |report| Some(report.per_second))
    }

    pub(crate) fn cpu(&self, workload: &str, server: &str) -> Option<Median> {
        self.median(workload, server, |report| {
            report.server.as_ref().map(|server| server.cpu_per_operation)
        })
    }

    pub(crate) fn unit(&self, workload: &str, server: &str) -> Option<&str> {
        self.reports(workload, server)?.first().map(|report| report.unit.as_str())
    }

    /// The number of rounds of a workload with a server.
    pub(crate) fn rounds(&self, workload: &str, server: &str) -> usize {
        self.reports(workload, server).map_or(0, Vec::len)
    }

    fn reports(&self, workload: &str, server: &str) -> Option<&Vec<Report>> {
        self.0.get(workload)?.get(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(per_second: f64) -> Report {
        Report {
            unit: "edit".to_owned(),
            operations: 1.0,
            per_second,
            latency: None,
            listening: None,
            server: None,
        }
    }

    #[test]
    fn the_median_is_that_of_all_rounds() {
        let mut figures = Figures::default();
        for rate in [3.0, 1.0, 2.0] {
            figures.add("a", "b", report(rate));
        }
        let shown = |median: Option<Median>| {
            let Median { value, spread } = median?;
            Some(format!("{value:.1} {:.1}", spread?))
        };
        assert_eq!(shown(figures.throughput("a", "b")).as_deref(), Some("2.0 1.0"));
        figures.add("a", "b", report(10.0));
        assert_eq!(shown(figures.throughput("a", "b")).as_deref(), Some("2.5 3.6"));
        assert!(figures.cpu("a", "b").is_none());
    }
}

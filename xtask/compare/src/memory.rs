//! The table of resident memory.

use std::fmt::Write;

use anyhow::Result;

use crate::figures::{Report, ServerCost};
use crate::plan::Act;
use crate::record::Record;
use crate::server::Contender;

/// The target ratio of the reference's memory to Downbeat's.
const MARK: f64 = 5.0;

/// The pairs of streams from which the growth of the peak is computed.
const STREAMS: [[&str; 2]; 2] =
    [["stream up", "stream up, 400 MB"], ["stream down", "stream down, 400 MB"]];

struct Row {
    name: &'static str,
    workload: &'static str,
    /// The value of a report, in the unit.
    figure: fn(&ServerCost, &Report) -> f64,
    unit: &'static str,
    is_marked: bool,
}

const ROWS: &[Row] = &[
    Row {
        name: "idle, with an empty store",
        workload: "upload before a restart",
        figure: |server, _| server.resident_before / 1e6,
        unit: "MB",
        is_marked: true,
    },
    Row {
        name: "after the act `uploads`",
        workload: "fan-out to 1,000",
        figure: |server, _| server.resident_after / 1e6,
        unit: "MB",
        is_marked: true,
    },
    Row {
        name: "per connection, of 1,000 idle connections",
        workload: "1,000 idle connections",
        figure: growth_for_each,
        unit: "kB",
        is_marked: true,
    },
    Row {
        name: "per connection, of 10,000 idle connections",
        workload: "10,000 idle connections",
        figure: growth_for_each,
        unit: "kB",
        is_marked: true,
    },
    Row {
        name: "in total, with 10,000 idle connections",
        workload: "10,000 idle connections",
        figure: |server, _| server.resident_after / 1e6,
        unit: "MB",
        is_marked: true,
    },
    Row {
        name: "after 100,000 CoValues were uploaded",
        workload: "upload of 100,000",
        figure: |server, _| server.resident_after / 1e6,
        unit: "MB",
        is_marked: true,
    },
    Row {
        name: "after 100,000 CoValues were loaded",
        workload: "fetch of 100,000",
        figure: |server, _| server.resident_after / 1e6,
        unit: "MB",
        is_marked: true,
    },
    peak_of("peak above the idle server, 100 MB stream up", STREAMS[0][0]),
    peak_of("peak above the idle server, 400 MB stream up", STREAMS[0][1]),
    peak_of("peak above the idle server, 100 MB stream down", STREAMS[1][0]),
    peak_of("peak above the idle server, 400 MB stream down", STREAMS[1][1]),
];

const fn peak_of(name: &'static str, workload: &'static str) -> Row {
    Row { name, workload, figure: peak_growth, unit: "MB", is_marked: false }
}

/// All rows with figures, as Markdown; empty if there are none.
pub(crate) fn table(records: &[(&Act, &Record)]) -> Result<String> {
    let mut text = String::new();
    for row in ROWS {
        let of = |contender: Contender| median(records, row, contender);
        let [reference, ours @ ..] = Contender::ALL.map(of);
        if reference.is_none() && ours.iter().all(Option::is_none) {
            continue;
        }
        let cell = |figure: Option<f64>| {
            figure.map_or_else(String::new, |figure| format!("{figure:.1} {}", row.unit))
        };
        write!(text, "| {} | {} |", row.name, cell(reference))?;
        for ours in ours {
            let ratio = reference.zip(ours).map(|(theirs, ours)| theirs / ours);
            let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.1}"));
            write!(text, " {} | {ratio} |", cell(ours))?;
        }
        let mark = if row.is_marked { format!("{MARK:.0}") } else { String::new() };
        writeln!(text, " {mark} |")?;
    }
    if text.is_empty() {
        return Ok(text);
    }
    let mut table =
        "| resident memory | reference | native | ratio | sled | ratio | sqlite | ratio | target |\n\
         |---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    table.push_str(&text);
    for contender in Contender::ALL {
        if let Some(sentence) = growth(records, contender)? {
            write!(table, "\n{sentence}\n")?;
        }
    }
    Ok(table)
}

/// A sentence about the growth of the peak from a stream of 100 MB to one of 400 MB.
fn growth(records: &[(&Act, &Record)], contender: Contender) -> Result<Option<String>> {
    let mut parts = Vec::new();
    for [small, large] in STREAMS {
        let of = |workload| median(records, &peak_of("", workload), contender);
        let Some((small_peak, large_peak)) = of(small).zip(of(large)) else { continue };
        let for_each = (large_peak - small_peak) / 300.0;
        parts.push(format!("{for_each:.2} MB with each MB of the {small}"));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let mut sentence = String::new();
    write!(sentence, "The peak of `{}` grows by {}.", contender.name(), parts.join(", by "))?;
    Ok(Some(sentence))
}

fn median(records: &[(&Act, &Record)], row: &Row, contender: Contender) -> Option<f64> {
    let of_record = |record: &Record| {
        record.figures.median(row.workload, contender.name(), |report| {
            report.server.as_ref().map(|server| (row.figure)(server, report))
        })
    };
    records.iter().find_map(|(_, record)| of_record(record)).map(|median| median.value)
}

fn growth_for_each(server: &ServerCost, report: &Report) -> f64 {
    (server.resident_after - server.resident_before) / report.operations / 1e3
}

fn peak_growth(server: &ServerCost, _: &Report) -> f64 {
    (server.resident_peak - server.resident_before) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ACTS;

    fn report(before: f64, peak: f64) -> Report {
        Report {
            unit: "MB".to_owned(),
            operations: 1.0,
            per_second: 1.0,
            latency: None,
            listening: None,
            server: Some(ServerCost {
                cpu_per_operation: 1.0,
                resident_before: before,
                resident_after: peak,
                resident_peak: peak,
            }),
        }
    }

    #[test]
    fn rows_are_of_workloads_that_are_played() {
        let names: Vec<_> = ACTS.iter().flat_map(Act::workloads).map(|one| one.name).collect();
        assert!(ROWS.iter().all(|row| names.contains(&row.workload)), "{names:?}");
    }

    #[test]
    fn what_grows_with_a_stream_is_said() {
        let act = &ACTS[0];
        let mut record = Record::new(act, None);
        for (workload, peak) in [("stream up", 150e6), ("stream up, 400 MB", 300e6)] {
            record.figures.add(workload, "sled", report(50e6, peak));
            record.figures.add(workload, "reference", report(50e6, 10.0 * peak - 450e6));
        }
        let table = table(&[(act, &record)]).unwrap();
        assert!(table.contains("| 1000.0 MB |  |  | 100.0 MB | 10.0 |  |  |  |"), "{table}");
        assert!(
            table.contains("`sled` grows by 0.50 MB with each MB of the stream up."),
            "{table}"
        );
    }
}

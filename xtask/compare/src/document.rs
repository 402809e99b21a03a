//! The tables of `docs/benchmarks.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figures::{CEILING, Figures, Latency, Median, Report, ServerCost};
use crate::memory;
use crate::plan::{ACTS, Act, Workload};
use crate::record::Record;
use crate::server::Contender;

/// This program writes the part of the document between these lines.
const BEGIN: &str = "<!-- written by `cargo xtask bench compare --write docs` -->";
const END: &str = "<!-- until here -->";

/// All figures as Markdown: a table for each act, and a table of memory.
pub(crate) fn tables(records: &[(&Act, &Record)]) -> Result<String> {
    let mut text = String::new();
    for (act, record) in records {
        let table = if act.is_of_starts() { starts(act, record)? } else { workloads(act, record)? };
        writeln!(text, "### `{}`: {}\n", act.name, act.about)?;
        writeln!(text, "{}\n\n{table}", provenance(act, record))?;
    }
    let memory = memory::table(records)?;
    if !memory.is_empty() {
        writeln!(text, "### Memory\n\nMeasured in the same runs as the acts above.\n\n{memory}")?;
    }
    Ok(text)
}

/// Replaces the tables of the document.
pub(crate) fn write(folder: &Path, records: &[(&Act, &Record)]) -> Result<()> {
    let path = folder.join("benchmarks.md");
    let document = crate::read(&path)?;
    let missing = || format!("{} has no line {BEGIN:?} before {END:?}", path.display());
    let (before, rest) = document.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    let plots = if has_ratios(records) {
        "![Throughput as a multiple of the reference's](benchmarks/throughput.svg)\n\n\
         ![CPU time per operation: the reference's as a multiple of Downbeat's](benchmarks/cpu.svg)\n\n"
    } else {
        ""
    };
    let of_the_whole = whole(records);
    let tables = tables(records)?;
    let written = format!("{before}{BEGIN}\n\n{of_the_whole}\n\n{plots}{tables}{END}{after}");
    fs::write(&path, written).with_context(|| path.display().to_string())
}

/// The introduction to the tables, which names missing acts.
fn whole(records: &[(&Act, &Record)]) -> String {
    let mut text =
        "Medians of all rounds. The spread is in parentheses: the range as a percentage of the median. All servers \
                    of an act were measured in one run."
            .to_owned();
    let mut commits: Vec<_> = records.iter().map(|(_, record)| record.commit.as_str()).collect();
    commits.sort_unstable();
    commits.dedup();
    if commits.len() > 1 {
        text.push_str(" **Not all acts are of the same commit**: each act names its commit.");
    }
    let is_there = |act: &Act| records.iter().any(|(played, _)| played.name == act.name);
    let absent: Vec<_> =
        ACTS.iter().filter(|act| !is_there(act)).map(|act| format!("`{}`", act.name)).collect();
    if !absent.is_empty() {
        text.push_str(" **Not measured yet** in the current form: ");
        text.push_str(&absent.join(", "));
        text.push('.');
    }
    text
}

/// The commit, the date and the machine of an act.
fn provenance(act: &Act, record: &Record) -> String {
    let Record { commit, date, machine, co_values, figures, .. } = record;
    let rounds = act
        .workloads()
        .flat_map(|workload| {
            Contender::ALL.map(|contender| figures.rounds(workload.name, contender.name()))
        })
        .max()
        .unwrap_or_default();
    let rounds = if rounds == 1 { "1 round".to_owned() } else { format!("{rounds} rounds") };
    let store = co_values.map_or_else(String::new, |count| {
        format!(", on a store of {} CoValues of 5 transactions", thousands(count))
    });
    format!("Commit {commit}, {date}, {rounds}{store}. {machine}.")
}

fn workloads(act: &Act, record: &Record) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "| workload | server | operations/s | ratio | target | CPU µs/operation | ratio | target | median ms | 99 % ms | MB before → after (peak) |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    let figures = &record.figures;
    for workload in act.workloads() {
        for contender in Contender::ALL {
            if let Some(row) = row(workload, contender, figures) {
                writeln!(text, "{row}")?;
            }
        }
        if let Some(ceiling) = figures.throughput(workload.name, CEILING) {
            let (name, ceiling) = (workload.name, number(ceiling.value));
            writeln!(text, "| {name} | *clients alone* | {ceiling} | | | | | | | | |")?;
        }
    }
    Ok(text)
}

fn row(workload: &Workload, contender: Contender, figures: &Figures) -> Option<String> {
    let (name, server) = (workload.name, contender.name());
    let throughput = figures.throughput(name, server)?;
    let unit = figures.unit(name, server).unwrap_or_default();
    let reference = Contender::Reference.name();
    let compared =
        (contender != Contender::Reference).then(|| figures.throughput(name, reference)).flatten();
    let ratio = compared.map(|theirs| throughput.value / theirs.value);
    let cpu = figures.cpu(name, server);
    let cpu_ratio = match (cpu, compared.and(figures.cpu(name, reference))) {
        (Some(ours), Some(theirs)) => Some(theirs.value / ours.value),
        _ => None,
    };
    let marks = workload.marks.filter(|_| ratio.is_some());
    Some(format!(
        "| {name} | {server} | {} {unit} | {} | {} | {} | {} | {} | {} | {} | {} |",
        with_spread(Some(throughput)),
        times(ratio),
        times(marks.map(|(throughput, _)| throughput)),
        with_spread(cpu),
        times(cpu_ratio),
        times(marks.map(|(_, cpu)| cpu)),
        milliseconds(figures, name, server, |report| Some(report.latency.as_ref()?.p50)),
        milliseconds(figures, name, server, |report| Some(report.latency.as_ref()?.p99)),
        memory_of(figures, name, server),
    ))
}

/// The table of an act that starts a server repeatedly.
fn starts(act: &Act, record: &Record) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "| | server | listening after ms | first answer after ms | longest ms | CPU s | MB listening → answered (peak) |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    let figures = &record.figures;
    for workload in act.workloads() {
        for contender in Contender::ALL {
            let (name, server) = (workload.name, contender.name());
            let Some(cpu) = figures.cpu(name, server) else { continue };
            let latency = |of: fn(&Report) -> Option<&Latency>, figure: fn(&Latency) -> f64| {
                milliseconds(figures, name, server, |report| of(report).map(figure))
            };
            writeln!(
                text,
                "| {name} | {server} | {} | {} | {} | {:.2} | {} |",
                latency(|report| report.listening.as_ref(), |latency| latency.p50),
                latency(|report| report.latency.as_ref(), |latency| latency.p50),
                latency(|report| report.latency.as_ref(), |latency| latency.max),
                cpu.value / 1e6,
                memory_of(figures, name, server),
            )?;
        }
    }
    Ok(text)
}

/// Whether there are figures to plot.
fn has_ratios(records: &[(&Act, &Record)]) -> bool {
    records.iter().any(|(act, record)| {
        let is_there =
            |name: &str, contender: Contender| record.figures.rounds(name, contender.name()) > 0;
        act.workloads().filter(|workload| workload.marks.is_some()).any(
            |Workload { name, .. }| {
                is_there(name, Contender::Reference) && is_there(name, Contender::Native)
            },
        )
    })
}

fn milliseconds(
    figures: &Figures,
    workload: &str,
    server: &str,
    figure: impl Fn(&Report) -> Option<f64>,
) -> String {
    figures
        .median(workload, server, figure)
        .map_or_else(String::new, |median| format!("{:.2}", median.value))
}

fn memory_of(figures: &Figures, workload: &str, server: &str) -> String {
    let megabytes = |figure: fn(&ServerCost) -> f64| {
        figures
            .median(workload, server, |report| report.server.as_ref().map(figure))
            .map_or_else(String::new, |median| format!("{:.0}", median.value / 1e6))
    };
    format!(
        "{} → {} ({})",
        megabytes(|server| server.resident_before),
        megabytes(|server| server.resident_after),
        megabytes(|server| server.resident_peak)
    )
}

fn with_spread(median: Option<Median>) -> String {
    median.map_or_else(String::new, |Median { value, spread }| match spread {
        Some(spread) => format!("{} ({:.0} %)", number(value), spread * 100.0),
        None => number(value),
    })
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| {
        if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
    })
}

fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(act: &Act, commit: &str) -> Record {
        let mut record = Record::new(act, None);
        commit.clone_into(&mut record.commit);
        record
    }

    #[test]
    fn acts_of_other_commits_and_those_not_played_are_named() {
        let [first, second] = [&ACTS[0], &ACTS[1]];
        let [old, new] = [record(first, "old"), record(second, "new")];
        let text = whole(&[(first, &old), (second, &new)]);
        assert!(text.contains("Not all acts are of the same commit"), "{text}");
        assert!(text.contains("`stream`") && !text.contains("`uploads`"), "{text}");
        let text = whole(&[(first, &old), (second, &record(second, "old"))]);
        assert!(!text.contains("Not all acts are of the same commit"), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([999, 20_000, 1_000_000].map(thousands), ["999", "20,000", "1,000,000"]);
    }
}

//! The table for `docs/benchmarks.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figures::{CEILING, Figures, Median};
use crate::machine;
use crate::plan;
use crate::server::Contender;

/// What is written by this program stands between these lines of the document.
const BEGIN: &str = "<!-- written by `cargo xtask bench compare --write docs` -->";
const END: &str = "<!-- until here -->";

/// All figures as Markdown.
pub(crate) fn table(figures: &Figures, contenders: &[Contender]) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "| workload | server | operations/s | ratio | mark | CPU µs/operation | ratio | mark | median ms | 99 % ms | MB before → after (peak) |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for workload in plan::workloads() {
        let reference = Contender::Reference.name();
        for &contender in contenders {
            let server = contender.name();
            let Some(throughput) = figures.throughput(workload.name, server) else { continue };
            let unit = figures.unit(workload.name, server).unwrap_or_default();
            let compared = (contender != Contender::Reference)
                .then(|| figures.throughput(workload.name, reference))
                .flatten();
            let ratio = compared.map(|theirs| throughput.value / theirs.value);
            let cpu = figures.cpu(workload.name, server);
            let cpu_ratio = match (cpu, compared.and(figures.cpu(workload.name, reference))) {
                (Some(ours), Some(theirs)) => Some(theirs.value / ours.value),
                _ => None,
            };
            let marks = workload.marks.filter(|_| ratio.is_some());
            writeln!(
                text,
                "| {} | {server} | {} {unit} | {} | {} | {} | {} | {} | {} | {} | {} |",
                workload.name,
                with_spread(Some(throughput)),
                times(ratio),
                times(marks.map(|(throughput, _)| throughput)),
                with_spread(cpu),
                times(cpu_ratio),
                times(marks.map(|(_, cpu)| cpu)),
                milliseconds(figures, workload.name, server, |latency| latency.p50),
                milliseconds(figures, workload.name, server, |latency| latency.p99),
                memory(figures, workload.name, server),
            )?;
        }
        if let Some(ceiling) = figures.throughput(workload.name, CEILING) {
            writeln!(
                text,
                "| {} | *clients alone* | {} | | | | | | | | |",
                workload.name,
                number(ceiling.value)
            )?;
        }
    }
    Ok(text)
}

/// Puts the table where the last one was.
pub(crate) fn write(folder: &Path, table: &str, figures: &Figures, rounds: usize) -> Result<()> {
    let path = folder.join("benchmarks.md");
    let document = crate::read(&path)?;
    let missing = || format!("{} has no line {BEGIN:?} before {END:?}", path.display());
    let (before, rest) = document.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    let machine = machine::describe();
    let plots = if figures.throughput("upload", Contender::Reference.name()).is_some() {
        "![Throughput as a multiple of the reference's](benchmarks/throughput.svg)\n\n\
         ![CPU time for an operation: the reference's as a multiple](benchmarks/cpu.svg)\n\n"
    } else {
        ""
    };
    let written = format!(
        "{before}{BEGIN}\n\nMedians of {rounds} rounds (spread in parentheses: the range as a part of \
         the median). Machine: {machine}.\n\n{plots}{table}\n{END}{after}"
    );
    fs::write(&path, written).with_context(|| path.display().to_string())
}

fn milliseconds(
    figures: &Figures,
    workload: &'static str,
    server: &'static str,
    figure: impl Fn(&crate::figures::Latency) -> f64,
) -> String {
    figures
        .median(workload, server, |report| report.latency.as_ref().map(&figure))
        .map_or_else(String::new, |median| format!("{:.2}", median.value))
}

fn memory(figures: &Figures, workload: &'static str, server: &'static str) -> String {
    let megabytes = |figure: fn(&crate::figures::ServerCost) -> f64| {
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
    median.map_or_else(String::new, |Median { value, spread }| {
        format!("{} ({:.0} %)", number(value), spread * 100.0)
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

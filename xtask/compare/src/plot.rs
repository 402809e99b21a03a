//! Plots of the ratios, as SVG.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::plan::{Act, Workload};
use crate::record::Record;
use crate::server::Contender;

const WIDTH: u32 = 860;
const ROW: u32 = 34;
const MARGIN: u32 = 70;

/// The ratio of a workload, and its target.
struct Bar {
    name: &'static str,
    ratio: f64,
    mark: f64,
}

/// Writes `throughput.svg` and `cpu.svg` for Downbeat with its default storage.
pub(crate) fn write(folder: &Path, records: &[(&Act, &Record)]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let (ours, theirs) = (Contender::Native.name(), Contender::Reference.name());
    let bars = |ratio: &dyn Fn(&Record, &Workload) -> Option<f64>, mark: fn((f64, f64)) -> f64| {
        let workloads = records
            .iter()
            .flat_map(|(act, record)| act.workloads().map(move |workload| (record, workload)));
        workloads
            .filter_map(|(record, workload)| {
                let mark = mark(workload.marks?);
                Some(Bar { name: workload.name, ratio: ratio(record, workload)?, mark })
            })
            .collect::<Vec<_>>()
    };
    let throughput = bars(
        &|record, workload| {
            let [ours, theirs] =
                [ours, theirs].map(|server| record.figures.throughput(workload.name, server));
            Some(ours?.value / theirs?.value)
        },
        |(throughput, _)| throughput,
    );
    let cpu = bars(
        &|record, workload| {
            let [ours, theirs] =
                [ours, theirs].map(|server| record.figures.cpu(workload.name, server));
            Some(theirs?.value / ours?.value)
        },
        |(_, cpu)| cpu,
    );
    draw(&folder.join("throughput.svg"), "Throughput, times the reference's", &throughput)?;
    draw(&folder.join("cpu.svg"), "Operations per CPU second, times the reference's", &cpu)
}

fn draw(path: &Path, title: &str, bars: &[Bar]) -> Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    let rows = u32::try_from(bars.len())?;
    let most = bars.iter().fold(1.0_f64, |most, bar| most.max(bar.ratio).max(bar.mark)) * 1.1;
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    let area = SVGBackend::new(path, (WIDTH, rows * ROW + MARGIN)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(140)
        .build_cartesian_2d(0.0..most, (0..rows).into_segmented())
        .map_err(|error| failed(&error))?;
    let name = |row: &SegmentValue<u32>| match row {
        // The end of the axis has a label, too.
        SegmentValue::CenterOf(row) if *row < rows => {
            // From top to bottom.
            let at = rows.saturating_sub(row + 1) as usize;
            bars.get(at).map_or_else(String::new, |bar| bar.name.to_owned())
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .draw()
        .map_err(|error| failed(&error))?;
    for (bar, row) in bars.iter().zip((0..rows).rev()) {
        let colour =
            if bar.ratio >= bar.mark { RGBColor(46, 125, 80) } else { RGBColor(200, 120, 40) };
        let rectangle = Rectangle::new(
            [(0.0, SegmentValue::Exact(row)), (bar.ratio, SegmentValue::Exact(row + 1))],
            colour.filled(),
        );
        let mark = PathElement::new(
            [(bar.mark, SegmentValue::Exact(row)), (bar.mark, SegmentValue::Exact(row + 1))],
            BLACK.stroke_width(2),
        );
        let mut rectangle = rectangle;
        rectangle.set_margin(5, 5, 0, 0);
        chart.draw_series([rectangle]).map_err(|error| failed(&error))?;
        chart.draw_series([mark]).map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))
}

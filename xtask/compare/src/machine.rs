//! The machine and the versions that figures were taken on.

use std::fs;
use std::process::Command;

/// A sentence for the documentation. What cannot be found out is left out.
pub(crate) fn describe() -> String {
    let mut parts = Vec::new();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    if let Some(model) = model {
        parts.push(format!(
            "{cores} virtual cores of {}",
            model.trim_start_matches([' ', '\t', ':'])
        ));
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    if let Some(kilobytes) =
        total.and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok())
    {
        parts.push(format!("{} GB of memory", kilobytes / 1_000_000));
    }
    for (program, argument) in [("uname", "-sr"), ("rustc", "--version"), ("node", "--version")] {
        if let Some(version) = output(program, argument) {
            parts.push(if program == "node" { format!("Node.js {version}") } else { version });
        }
    }
    parts.join(", ")
}

fn output(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

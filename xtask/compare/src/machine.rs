//! The machine and the versions of a measurement.

use std::fs;
use std::process::Command;

/// The current commit, with `+` if there are changes outside the documentation.
pub(crate) fn commit() -> String {
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changes = git(&["status", "--porcelain", "--", ".", ":(exclude)docs"]);
    if changes.is_some_and(|changes| changes.is_empty()) { commit } else { commit + "+" }
}

/// The date, in UTC.
pub(crate) fn today() -> String {
    output("date", &["-u", "+%F"]).unwrap_or_default()
}

/// A sentence for the documentation. Omits facts that cannot be determined.
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
        if let Some(version) = output(program, &[argument]) {
            parts.push(if program == "node" { format!("Node.js {version}") } else { version });
        }
    }
    parts.join(", ")
}

fn git(arguments: &[&str]) -> Option<String> {
    output("git", arguments)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(text).ok()?.trim().to_owned())
}

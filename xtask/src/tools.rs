//! Checks for installed programs before a command needs them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// The oldest Node.js with the built-in test runner that the interop programs use.
const MIN_NODE: u32 = 20;

/// Checks for Node.js and npm, which install the rest.
pub(crate) fn require_node() -> Result<()> {
    let missing = |what: &str| {
        format!(
            "{what}; the interop scenarios need Node.js {MIN_NODE} or newer with npm (https://nodejs.org)"
        )
    };
    let Some(version) = first_line("node", "--version") else {
        bail!(missing("Node.js is missing"));
    };
    match major(&version) {
        Some(major) if major >= MIN_NODE => {}
        _ => bail!(missing(&format!("Node.js {version} is too old"))),
    }
    if first_line(npm(), "--version").is_none() {
        bail!(missing("npm is missing"));
    }
    Ok(())
}

/// Checks for the C compiler, which builds dependencies with C code.
pub(crate) fn require_c_compiler() -> Result<()> {
    // With the MSVC toolchain the `cc` crate finds the compiler in the registry.
    if cfg!(windows) {
        return Ok(());
    }
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    if first_line(&compiler, "--version").is_none() {
        bail!("a C compiler is missing: `{compiler}` does not run (install one, or set CC)");
    }
    Ok(())
}

/// The program that checks metrics and alert rules.
pub(crate) const PROMTOOL: &str = "promtool";

/// Checks for the tool of Prometheus.
pub(crate) fn require_promtool() -> Result<()> {
    if first_line(PROMTOOL, "--version").is_none() {
        bail!(
            "{PROMTOOL} is missing, which checks metrics and alert rules: install Prometheus \
             (Debian and Ubuntu: apt-get install prometheus)"
        );
    }
    Ok(())
}

/// The name of the npm program.
pub(crate) fn npm() -> &'static str {
    if cfg!(windows) { "npm.cmd" } else { "npm" }
}

/// The directory of Node.js, if it contains the headers.
pub(crate) fn node_with_headers() -> Option<PathBuf> {
    let output = Command::new("node").args(["--print", "process.execPath"]).output().ok()?;
    let program = String::from_utf8(output.stdout).ok()?;
    let prefix = Path::new(program.trim()).parent()?.parent()?;
    prefix.join("include/node/node.h").is_file().then(|| prefix.to_owned())
}

/// The first line that a program prints, or `None` if it cannot be run.
fn first_line(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

/// The major version in `v20.11.1`.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_node_prints() {
        assert_eq!(major("v20.11.1"), Some(20));
        assert_eq!(major("v9.0.0\n"), Some(9));
        assert_eq!(major("20"), None);
        assert_eq!(major("something else"), None);
    }

    #[test]
    fn a_program_that_is_not_there_prints_nothing() {
        assert_eq!(first_line("downbeat-no-such-program", "--version"), None);
    }
}

//! Paths in the workspace, and the build of its binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The build profile of a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The profile of `cargo test`, with overflow checks and debug assertions.
    Debug,
    /// The profile of releases.
    Release,
}

impl Profile {
    /// The name of the profile, and that of its folder in the target directory.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Debug => ("dev", "debug"),
            Self::Release => ("release", "release"),
        }
    }
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    command
}

/// Builds and runs the program of a package of the workspace. Arguments that are added are the
/// program's own.
pub(crate) fn program(package: &str, profile: &str) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", package, "--profile", profile, "--"]);
    command
}

/// The command that builds the `downbeat` binary.
pub(crate) fn build(profile: Profile) -> Command {
    let mut command = cargo();
    let (profile, _) = profile.names();
    command.args(["build", "--package", "downbeat", "--profile", profile]);
    command
}

/// The path of the binary after [`build`]: in the target directory of this program, wherever the
/// configuration of Cargo has put it.
pub(crate) fn binary(profile: Profile) -> Result<PathBuf> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    let target = this.ancestors().nth(2).context("this program is not in a target directory")?;
    let (_, folder) = profile.names();
    Ok(target.join(folder).join("downbeat").with_extension(env::consts::EXE_EXTENSION))
}

//! `cargo xtask interop`: real Jazz clients, Node.js programs in `xtask/interop`, against the
//! binary of this workspace.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::npm;
use crate::steps::{Steps, command_line, run_within};
use crate::tools;
use crate::workspace::{Profile, binary, build, root};

/// The time limit for all scenarios together. The Node.js program has its own limits (and stops the
/// servers that it started), so this only ends a program that hangs.
const SCENARIOS_LIMIT: Duration = Duration::from_mins(10);

/// Run real Jazz clients (Node.js) against a sync server.
#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// Run only scenarios whose "group: name" contains this text, ignoring case.
    filter: Option<String>,

    /// The server under test.
    #[arg(long, value_enum, default_value_t)]
    server: Server,

    /// The storage of servers that keep their data on disk.
    #[arg(long, value_enum, default_value_t)]
    storage: OnDisk,

    /// Test the release build.
    ///
    /// The default is the debug build. It shares its dependencies with `cargo test`, so it builds
    /// in seconds, and it checks overflows and debug assertions. Dependencies are optimised in
    /// both.
    #[arg(long)]
    release: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Server {
    /// The binary of this workspace.
    #[default]
    Downbeat,
    /// A small server with the reference engine, to test the scenarios themselves.
    Reference,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum OnDisk {
    /// The default storage.
    #[default]
    Data,
    /// sled.
    Sled,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // Fails now rather than after the build of the server.
    tools::require_node()?;
    let mut steps = Steps::new(arguments.step_count());
    self::steps(&mut steps, arguments)?;
    steps.finish();
    Ok(())
}

/// Builds the server, installs the clients and runs the scenarios.
pub(crate) fn steps(steps: &mut Steps, arguments: &Arguments) -> Result<()> {
    let folder = root().join("xtask/interop");
    if arguments.server == Server::Downbeat {
        steps.command("server", &mut build(arguments.profile()))?;
    }
    let rerun = "cd xtask/interop && npm ci && cd old-clients && npm ci";
    steps.step("npm packages", rerun, || {
        npm::install(&folder)?;
        npm::install(&folder.join("old-clients"))?;
        npm::build_better_sqlite3(&folder)
    })?;

    let mut scenarios = Command::new("node");
    scenarios.current_dir(&folder).args(["--test-reporter=spec", "main.mjs"]);
    scenarios.args(&arguments.filter);
    scenarios.env("DOWNBEAT_INTEROP_SERVER", arguments.server.name());
    scenarios.env("DOWNBEAT_INTEROP_STORAGE", arguments.storage.name());
    scenarios.env("DOWNBEAT_BIN", binary(arguments.profile())?);
    let rerun = command_line(&arguments.command());
    steps.step("interop scenarios", &rerun, || run_within(SCENARIOS_LIMIT, &mut scenarios))
}

impl Arguments {
    /// The number of steps in [`steps`].
    pub(crate) fn step_count(&self) -> usize {
        match self.server {
            Server::Downbeat => 3,
            Server::Reference => 2,
        }
    }

    /// The command with these arguments.
    fn command(&self) -> Command {
        let mut command = Command::new("cargo");
        command.args(["xtask", "interop"]);
        if self.server != Server::default() {
            command.args(["--server", self.server.name()]);
        }
        if self.storage != OnDisk::default() {
            command.args(["--storage", self.storage.name()]);
        }
        if self.release {
            command.arg("--release");
        }
        command.args(&self.filter);
        command
    }

    fn profile(&self) -> Profile {
        if self.release { Profile::Release } else { Profile::Debug }
    }
}

impl OnDisk {
    /// The name on the command line and for the Node.js programs.
    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Sled => "sled",
        }
    }
}

impl Server {
    /// The name on the command line and for the Node.js programs.
    fn name(self) -> &'static str {
        match self {
            Self::Downbeat => "downbeat",
            Self::Reference => "reference",
        }
    }
}

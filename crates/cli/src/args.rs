//! The command line.

use clap::{Parser, Subcommand};

use crate::config::Sources;

/// A sync server for Jazz applications.
#[derive(Debug, Parser)]
#[command(name = "downbeat", version, about)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the sync server.
    Serve(Box<Sources>),
    /// Show the configuration: each value, and where it comes from. Takes what `serve` takes.
    Config(Box<ConfigOptions>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigOptions {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub sources: Sources,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}

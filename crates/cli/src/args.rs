//! The command line.

use clap::{Parser, Subcommand};

use crate::bench::BenchOptions;
use crate::config::Sources;
use crate::exit;
use crate::keys::KeyCommand;

/// A sync server for Jazz applications.
///
/// Point the sync peer of an app at the URL that `downbeat serve` prints, and its CoValues sync
/// through it. What the server acknowledges is on disk.
#[derive(Debug, Parser)]
#[command(name = "downbeat", version, about, after_help = exit::HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the sync server.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<Sources>),
    /// Show the configuration: each value, and where it comes from. Takes what `serve` takes.
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(Box<ConfigOptions>),
    /// Make, list and revoke the keys with which clients may connect.
    #[command(subcommand)]
    Key(KeyCommand),
    #[command(flatten)]
    Tool(crate::tools::Tool),
    /// Put load on a sync server and measure it.
    Bench(BenchOptions),
    /// Print the completions for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigOptions {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub sources: Sources,
}

const SERVE_EXAMPLES: &str = "\
Every flag can be a variable (DOWNBEAT_PORT for --port) or a line of the file of --config
(port = 4200) as well; `downbeat config` shows which one counts.

Examples:
  For an app on this machine:
    downbeat serve
  Nothing kept, on a free port, as tests like it:
    downbeat serve --in-memory --port 0
  On the internet, for who has a key, with a status page for this machine alone:
    downbeat key add my-app --keys keys.toml
    downbeat serve --host 0.0.0.0 --port 443 --tls-cert chain.pem --tls-key key.pem \\
        --access keys --keys keys.toml --admin-port 4201
  An edge in front of another server:
    downbeat serve --upstream wss://sync.example.com";

const CONFIG_EXAMPLES: &str = "\
Examples:
  downbeat config --config downbeat.toml
  downbeat config --json | jq -r '.port.value'";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  downbeat completions bash > ~/.local/share/bash-completion/completions/downbeat
  downbeat completions zsh > \"${fpath[1]}/_downbeat\"
  downbeat completions fish > ~/.config/fish/completions/downbeat.fish";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}

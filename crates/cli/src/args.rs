//! The command line.

use clap::{Parser, Subcommand};

use crate::bench::BenchOptions;
use crate::config::Sources;
use crate::exit;
use crate::keys::KeyCommand;

/// A sync server for Jazz applications.
///
/// `downbeat serve` prints a URL. Set it as the sync peer of an app, and the app's CoValues sync
/// through the server. Acknowledged content is on disk.
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
    /// Show each setting with its value and origin. Takes the flags of `serve`.
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(Box<ConfigOptions>),
    /// Create, list and revoke access keys.
    #[command(subcommand)]
    Key(KeyCommand),
    #[command(flatten)]
    Tool(crate::tools::Tool),
    /// Generate load on a sync server and measure it.
    Bench(BenchOptions),
    /// Print the completion script of a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell.
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
Each flag is also an environment variable (--port: DOWNBEAT_PORT) and a line of the configuration
file (port = 4200). `downbeat config` shows the value of each setting and its origin.

Examples:
  A server for an app on this machine:
    downbeat serve
  In memory and on a free port, for tests:
    downbeat serve --in-memory --port 0
  On the internet, for clients with a key, with a status page for this machine only:
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

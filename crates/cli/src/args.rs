//! The command line.

use std::net::IpAddr;

use clap::{Parser, Subcommand};

use crate::storage::{DurabilityChoice, StorageChoice};

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
    Serve(ServeOptions),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeOptions {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 4200)]
    pub port: u16,
    /// Where data is kept: `memory`, or `sled:DIR`.
    #[arg(long, default_value = "sled:./downbeat-data", value_name = "STORAGE")]
    pub storage: StorageChoice,
    /// When content is acknowledged to its author.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub durability: DurabilityChoice,
    /// A server to sync with, as `ws://HOST:PORT`: what is not here is asked for there, and what
    /// is new here is given to it. Can be given several times.
    #[arg(long, value_name = "URL")]
    pub upstream: Vec<String>,
    /// With how many of the upstreams each CoValue is synced; all of them if this is not given.
    #[arg(long, value_name = "N", requires = "upstream")]
    pub upstreams_per_covalue: Option<std::num::NonZeroUsize>,
    /// Compare everything in storage with each upstream when it is connected.
    #[arg(long, requires = "upstream")]
    pub full_storage_reconciliation: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durability_is_safe_unless_chosen_otherwise() {
        let durability = |line: &[&str]| {
            let Command::Serve(options) = Args::try_parse_from(line)?.command;
            Ok::<_, clap::Error>(options.durability)
        };
        assert_eq!(durability(&["downbeat", "serve"]).unwrap(), DurabilityChoice::Safe);
        let relaxed = ["downbeat", "serve", "--durability", "relaxed"];
        assert_eq!(durability(&relaxed).unwrap(), DurabilityChoice::Relaxed);
        let error = durability(&["downbeat", "serve", "--durability", "lax"]).unwrap_err();
        assert!(error.to_string().contains("safe, relaxed"), "{error}");
    }
}

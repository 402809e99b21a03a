//! The command line.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};

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

/// When content is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DurabilityChoice {
    /// When it is on disk: nothing that was acknowledged is lost when the machine crashes.
    #[default]
    Safe,
    /// When it is in memory, from where it is flushed to the disk within a fifth of a second: a
    /// crash of the process or the machine loses up to as much of what was acknowledged. Faster
    /// on slow disks.
    Relaxed,
}

/// Where data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorageChoice {
    /// In memory: gone when the server stops.
    Memory,
    /// In a sled store in this directory.
    Sled(PathBuf),
}

impl FromStr for StorageChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            Some(("sled", "")) => Err("`sled:` needs a directory: sled:DIR".to_owned()),
            Some(("sled", dir)) => Ok(Self::Sled(dir.into())),
            _ => Err("expected `memory` or `sled:DIR`".to_owned()),
        }
    }
}

impl fmt::Display for StorageChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sled(dir) => write!(f, "sled:{}", dir.display()),
        }
    }
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
    fn a_storage_is_memory_or_a_sled_directory() {
        assert_eq!("memory".parse(), Ok(StorageChoice::Memory));
        assert_eq!("sled:a/b".parse(), Ok(StorageChoice::Sled("a/b".into())));
        for bad in ["", "sled", "sled:", "Memory", "rocks:dir"] {
            let error = bad.parse::<StorageChoice>().unwrap_err();
            assert!(error.contains("sled:DIR"), "{bad}: {error}");
        }
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

    #[test]
    fn a_storage_prints_as_it_is_written() {
        for text in ["memory", "sled:a/b"] {
            assert_eq!(text.parse::<StorageChoice>().unwrap().to_string(), text);
        }
    }
}

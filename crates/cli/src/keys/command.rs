//! `downbeat key`.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::edit;
use super::file::{KeyEntry, KeyFile, KeyName};
use super::secret::{self, KeyHash};
use crate::config::{Count, FileSources, Scalar, Size, Value, plain};

/// The maximum length of a key from standard input. Longer keys do not fit into a URL.
const MAX_KEY_BYTES: usize = 1_024;

/// Create, list and revoke access keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key and print it.
    ///
    /// The key cannot be printed again, because the file stores only its hash. A running server
    /// accepts it within two seconds. Clients send it in the URL of the sync server:
    /// `wss://sync.example.com/?key=KEY`.
    #[command(
        after_help = "Example:\n  downbeat key add my-app --keys keys.toml --max-stored 10GiB"
    )]
    Add(Add),
    /// List the keys and their limits.
    List(List),
    /// Revoke a key. A running server closes its connections within two seconds.
    #[command(after_help = "Example:\n  downbeat key revoke my-app --keys keys.toml")]
    Revoke(Revoke),
}

/// The choice of the key file.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The key file. Default: `keys` in the configuration.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    keys: Option<PathBuf>,
    #[command(flatten)]
    sources: FileSources,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Name of the key in logs, metrics and commands: `my-app`.
    name: KeyName,
    /// Read the key from standard input instead of creating one. It must be random.
    #[arg(long)]
    stdin: bool,
    /// Maximum number of connections with the key.
    #[arg(long, value_name = "N", value_parser = checked::<Count>)]
    max_connections: Option<String>,
    /// Messages per second from all its connections.
    #[arg(long, value_name = "N", value_parser = checked::<Count>)]
    messages_per_second: Option<String>,
    /// Bytes per second from all its connections.
    #[arg(long, value_name = "SIZE", value_parser = checked::<Size>)]
    bytes_per_second: Option<String>,
    /// Storage quota of the key.
    #[arg(long, value_name = "SIZE", value_parser = checked::<Size>)]
    max_stored: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Name of the key.
    name: KeyName,
    #[command(flatten)]
    which: Which,
}

/// Runs the command.
pub(crate) fn run(command: &KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Add(options) => add(options),
        KeyCommand::List(options) => list(options),
        KeyCommand::Revoke(options) => {
            let path = options.which.path()?;
            edit::remove(&path, &options.name)?;
            eprintln!(
                "Revoked {}. A running server closes its connections within two seconds.",
                options.name.0
            );
            Ok(())
        }
    }
}

fn add(options: &Add) -> anyhow::Result<()> {
    let path = options.which.path()?;
    let key = if options.stdin {
        let key = read_chosen(std::io::stdin())?;
        secret::check_chosen(&key)?;
        key
    } else {
        secret::generate()?
    };
    let limits: Vec<(&str, String)> = [
        ("max-connections", &options.max_connections),
        ("messages-per-second", &options.messages_per_second),
        ("bytes-per-second", &options.bytes_per_second),
        ("max-stored", &options.max_stored),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some((name, text.clone()?)))
    .collect();
    edit::add(&path, &options.name, KeyHash::of(&key), &limits)?;
    if options.stdin {
        eprintln!("Added {} to {}.", options.name.0, path.display());
        return Ok(());
    }
    // Standard output gets the key alone, for scripts.
    writeln!(std::io::stdout(), "{key}")?;
    eprintln!(
        "This is the key of {}. It cannot be shown again. Clients send it in the URL, as ?key=KEY.",
        options.name.0
    );
    Ok(())
}

/// Reads a key from standard input: one line.
fn read_chosen(input: impl Read) -> anyhow::Result<String> {
    let mut key = String::new();
    // One byte more than the longest key and its line end.
    let most = MAX_KEY_BYTES + "\r\n".len();
    let mut input = input.take(most as u64 + 1);
    input.read_to_string(&mut key).context("cannot read the key")?;
    let is_all = key.len() <= most;
    let key = key.trim_end_matches(['\r', '\n']);
    // A cut key would differ from the key that clients send.
    let fits = is_all && key.len() <= MAX_KEY_BYTES;
    anyhow::ensure!(fits, "a key must not be longer than {MAX_KEY_BYTES} bytes");
    Ok(key.to_owned())
}

fn list(options: &List) -> anyhow::Result<()> {
    let file = KeyFile::read(&options.which.path()?)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        let keys: Vec<_> = file.entries.iter().map(as_json).collect();
        writeln!(out, "{:#}", json!(keys))?;
        return Ok(());
    }
    if file.entries.is_empty() {
        eprintln!("There are no keys. `downbeat key add NAME` creates one.");
    }
    for entry in &file.entries {
        let created = entry.created.as_deref().unwrap_or("-");
        let limits = limits_of(entry);
        let limits: Vec<_> =
            limits.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
        writeln!(out, "{:24} {created:20}  {}", entry.name.0, limits.join(", "))?;
    }
    Ok(())
}

fn as_json(entry: &KeyEntry) -> serde_json::Value {
    let mut value = json!({ "name": entry.name.0, "created": entry.created });
    if let Some(members) = value.as_object_mut() {
        members.extend(limits_of(entry).into_iter().map(|(name, limit)| (name.to_owned(), limit)));
    }
    value
}

/// The limits of the key itself.
fn limits_of(entry: &KeyEntry) -> Vec<(&'static str, serde_json::Value)> {
    [
        ("max-connections", entry.max_connections.json()),
        ("messages-per-second", entry.messages_per_second.json()),
        ("bytes-per-second", entry.bytes_per_second.json()),
        ("max-stored", entry.max_stored.json()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_null())
    .collect()
}

impl Which {
    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.keys {
            return Ok(path.clone());
        }
        self.sources
            .settings()?
            .keys
            .value
            .context("no key file: set it with --keys FILE, or as `keys` in the configuration file")
    }
}

/// Checks that a text is a valid value, and returns the text.
fn checked<T: Scalar>(text: &str) -> Result<String, String> {
    T::parse(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_too_long_is_refused_and_not_cut() {
        let longest = "k".repeat(MAX_KEY_BYTES);
        for end in ["", "\n", "\r\n"] {
            let text = format!("{longest}{end}");
            assert_eq!(read_chosen(text.as_bytes()).unwrap(), longest);
        }
        for longer in ["k", "k\n", "kk", "kkkk", "\n\n\nkkk"] {
            let text = format!("{longest}{longer}");
            let key = read_chosen(text.as_bytes());
            assert!(key.is_err(), "{longer:?}: {key:?}");
        }
    }
}

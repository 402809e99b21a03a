//! Starts and ends servers for a command, with folders for their files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A child process. Ends when this is dropped.
pub(crate) struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server. Ends when this is dropped.
pub(crate) struct Running {
    _child: Ended,
    said: String,
}

impl Running {
    /// Starts a server, and waits until it listens.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().context("no standard output")?;
        let child = Ended(child);
        let mut lines = BufReader::new(out);
        let mut said = String::new();
        while !said.contains("Ctrl-C") {
            ensure!(lines.read_line(&mut said)? > 0, "the server has ended");
        }
        Ok(Self { _child: child, said })
    }

    /// The URL for clients.
    pub(crate) fn url(&self) -> Result<String> {
        let url = self.said.split_whitespace().find(|word| word.starts_with("ws://"));
        Ok(url.context("the server has no URL")?.to_owned())
    }

    /// The URL of the admin port.
    pub(crate) fn admin(&self) -> Result<String> {
        let url = self.said.split_whitespace().find(|word| word.starts_with("http://"));
        Ok(url.context("the server has no admin port")?.to_owned())
    }
}

/// A folder for the files of a server. Removed when this is dropped.
pub(crate) struct Folder {
    pub path: PathBuf,
}

impl Folder {
    /// Creates a folder with this prefix in its name.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

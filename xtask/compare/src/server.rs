//! Starting and stopping the compared servers.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Arguments;

/// The timeout for stopping a server.
const STOP_TIME: Duration = Duration::from_mins(1);

/// A compared server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// cojson with `SQLite`, in Node.js.
    Reference,
    /// Downbeat with its default storage. Acknowledged content is on disk.
    Native,
    /// Downbeat with sled. Acknowledged content is on disk.
    Sled,
    /// Downbeat with the reference's file format. Acknowledged content is on disk.
    Sqlite,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] = [Self::Reference, Self::Native, Self::Sled, Self::Sqlite];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Native => "native",
            Self::Sled => "sled",
            Self::Sqlite => "sqlite",
        }
    }

    /// The storage in this folder: the value of `--storage` for Downbeat, a file for the reference.
    pub(crate) fn storage(self, folder: &Path) -> String {
        let file = folder.join("storage.db");
        match self {
            Self::Reference => file.display().to_string(),
            Self::Native => format!("data:{}", folder.display()),
            Self::Sled => format!("sled:{}", folder.display()),
            Self::Sqlite => format!("sqlite:{}", file.display()),
        }
    }
}

/// A running server, killed when dropped.
pub(crate) struct Server {
    process: Child,
    url: String,
    /// Kept open, so that the server can continue to write to it.
    output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(
        contender: Contender,
        arguments: &Arguments,
        folder: &Path,
    ) -> Result<Self> {
        Self::spawn(&mut command(contender, arguments, folder))
    }

    /// The null server.
    pub(crate) fn start_null(arguments: &Arguments) -> Result<Self> {
        let mut command = Command::new(&arguments.downbeat);
        Self::spawn(command.args(["bench", "null-server"]))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().with_context(|| format!("{command:?}"))?;
        let output = process.stdout.take().context("the server has no output")?;
        let mut server = Self { process, url: String::new(), output: BufReader::new(output) };
        let mut line = String::new();
        while server.output.read_line(&mut line)? > 0 {
            if let Some(url) = line.split_ascii_whitespace().find(|word| word.starts_with("ws://"))
            {
                server.url = url.to_owned();
                return Ok(server);
            }
            line.clear();
        }
        bail!("{command:?} ended before it was listening")
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Stops the server with a signal, as an operator does, and waits until it has stored
    /// everything.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.pid().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().context("kill")?;
        anyhow::ensure!(told.success(), "the server could not be stopped");
        let end = Instant::now() + STOP_TIME;
        while self.process.try_wait()?.is_none() {
            anyhow::ensure!(Instant::now() < end, "the server did not stop in {STOP_TIME:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Usually the server has ended already. Otherwise its remaining work does not matter.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command that starts a server with its storage in a folder.
pub(crate) fn command(contender: Contender, arguments: &Arguments, folder: &Path) -> Command {
    let storage = contender.storage(folder);
    if contender == Contender::Reference {
        let mut command = Command::new("node");
        command.current_dir(&arguments.reference);
        command.args(["server.mjs", &storage]);
        return command;
    }
    let mut command = Command::new(&arguments.downbeat);
    command.args(["serve", "--port", "0", "--storage", &storage, "--log", "error"]);
    // The reference has no limits, so these are set high.
    command.args(["--max-connections-per-address", "20000", "--messages-per-second", "1000000"]);
    command.args(["--bytes-per-second", "10GiB"]);
    command
}

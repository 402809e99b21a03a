//! The real server, as a separate process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// Longer than any start with these stores, on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(1);

/// The longest wait for a server that does not stop in time, to report by how much.
const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// The command that starts a server.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) binary: PathBuf,
    /// The directory of the store and the log.
    pub(crate) dir: PathBuf,
    pub(crate) memory_budget: String,
    /// Options besides port, storage and memory budget.
    pub(crate) options: Vec<String>,
}

/// A running server. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    out: tokio::io::Lines<BufReader<ChildStdout>>,
    /// The address of the WebSocket port: `127.0.0.1:4200`.
    pub(crate) address: String,
    /// The URL of the TCP port, if it is on.
    pub(crate) tcp: Option<String>,
    log: PathBuf,
}

impl Program {
    /// The directory of the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Starts the server, and waits until it listens.
    pub(crate) async fn start(&self) -> Result<Server> {
        let log = self.dir.join("log");
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        let storage = format!("data:{}", self.store().display());
        command.args(["serve", "--port", "0", "--storage", &storage]);
        command.args(["--memory-budget", &self.memory_budget]).args(&self.options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command.stderr(File::create(&log).context("cannot create the log")?);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        let out = child.stdout.take().context("its standard output is no pipe")?;
        let out = BufReader::new(out).lines();
        let mut server = Server { child, out, address: String::new(), tcp: None, log };
        match tokio::time::timeout(START_LIMIT, server.listening()).await {
            Ok(listening) => listening?,
            Err(_) => bail!("the server does not start"),
        }
        Ok(server)
    }
}

impl Server {
    /// Reads the announcement of the server, up to its last line.
    async fn listening(&mut self) -> Result<()> {
        while let Some(line) = self.out.next_line().await? {
            for word in line.split_whitespace() {
                if let Some(address) = word.strip_prefix("ws://") {
                    address.clone_into(&mut self.address);
                } else if word.starts_with("tcp://") {
                    self.tcp = Some(word.to_owned());
                }
            }
            if line.contains("Ctrl-C") {
                ensure!(!self.address.is_empty(), "the server announces no address");
                return Ok(());
            }
        }
        bail!("the server does not start: {}", fs::read_to_string(&self.log)?)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Sends SIGTERM, and waits for the end. `None` if the server does not end in order.
    pub(crate) async fn stop(&mut self) -> Result<Option<Duration>> {
        let pid = self.pid()?.to_string();
        let began = Instant::now();
        let status = Command::new("kill").arg(pid).status().await?;
        ensure!(status.success(), "cannot send SIGTERM to the server");
        let Ok(status) = tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await else {
            self.child.kill().await?;
            return Ok(None);
        };
        Ok(status?.success().then(|| began.elapsed()))
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Result<Vec<u8>> {
        fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }
}

/// Settings of this machine do not change the server.
fn is_setting(name: &OsStr) -> bool {
    name == "RUST_LOG" || name.to_string_lossy().starts_with("DOWNBEAT_")
}

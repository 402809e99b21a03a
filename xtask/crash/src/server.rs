//! The real server, as a separate process.

use std::fmt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

/// Longer than any start with these stores, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Longer than the time limit of the server's own shutdown.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// A part of the source path of panics that are allowed. sled indexes unchecked into damaged files.
/// The backend turns these panics into errors, but the message is printed first.
const CAUGHT_PANICS: &str = "/sled-0.";

/// The command that starts a server.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// Further options.
    pub(crate) options: Vec<String>,
    /// The options that set the storage.
    pub(crate) storage: Vec<String>,
    /// A program with arguments that starts the server. Empty if the server starts directly.
    pub(crate) wrapper: Vec<String>,
    /// The user of the server. Default: the user of this program.
    pub(crate) user: Option<u32>,
}

/// A running server. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    out: tokio::io::Lines<BufReader<ChildStdout>>,
    started: Instant,
    log: Log,
}

/// The standard error of a server.
///
/// Uses a pipe, because some tests keep the server from writing files.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    reading: Option<JoinHandle<()>>,
}

/// The exit of a server that ended before it listened.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: ExitStatus,
    pub(crate) message: String,
}

impl Program {
    /// Adds options.
    pub(crate) fn with_options(mut self, options: &[String]) -> Self {
        self.options.extend_from_slice(options);
        self
    }

    /// Starts the process, without waiting until it listens.
    pub(crate) fn spawn(&self) -> Result<Server> {
        let mut command_line =
            self.wrapper.iter().map(AsRef::as_ref).chain([self.binary.as_os_str()]);
        let first = command_line.next().context("no program is given")?;
        let mut command = Command::new(first);
        command.args(command_line).arg("serve").args(["--port", "0"]).args(&self.storage);
        command
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        #[cfg(unix)]
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let started = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        let out = child.stdout.take().context("its standard output is not a pipe")?;
        let out = BufReader::new(out).lines();
        let log = Log::new(child.stderr.take().context("its standard error is not a pipe")?);
        Ok(Server { child, out, started, log })
    }

    /// Starts the server, and waits until it listens. Returns its URL and the duration of the
    /// start.
    pub(crate) async fn start(&self) -> Result<(Server, String, Duration)> {
        let mut server = self.spawn()?;
        match server.listening().await? {
            Ok((url, time)) => Ok((server, url, time)),
            Err(refusal) => bail!("the server does not start: {refusal}"),
        }
    }
}

impl Server {
    /// Waits until the server listens or ends. The future may be dropped, and this called again.
    pub(crate) async fn listening(&mut self) -> Result<Result<(String, Duration), Refusal>> {
        let url = async {
            while let Some(line) = self.out.next_line().await? {
                if line.trim_start().starts_with("ws://") {
                    return Ok::<_, std::io::Error>(Some(line.trim().to_owned()));
                }
            }
            Ok(None)
        };
        let url = tokio::time::timeout(START_LIMIT, url).await;
        let url = url.context("the server neither listens nor ends")??;
        if let Some(url) = url {
            return Ok(Ok((url, self.started.elapsed())));
        }
        let (status, message) = self.ended().await?;
        Ok(Err(Refusal { status, message }))
    }

    /// Kills the process immediately.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself with {status}: {}", self.log.finish().await?);
        }
        self.child.kill().await.context("cannot kill the server")?;
        self.log.finish().await.map(drop)
    }

    /// Asks the process to end, which must succeed.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        terminate(self.pid()?).await?;
        let (status, log) = self.ended().await?;
        ensure!(status.success(), "the server ended with {status}: {log}");
        Ok(())
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Result<String> {
        self.log.text()
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    async fn ended(&mut self) -> Result<(ExitStatus, String)> {
        let ended = tokio::time::timeout(STOP_LIMIT, self.child.wait()).await;
        let status = ended.context("the server does not end")?;
        Ok((status.context("cannot wait for the server")?, self.log.finish().await?))
    }
}

impl Log {
    fn new(mut pipe: ChildStderr) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&text);
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
                let mut text = collected.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&buffer[..count]);
            }
        });
        Self { text, reading: Some(reading) }
    }

    /// The text so far. Fails if it reports a panic outside of sled.
    fn text(&self) -> Result<String> {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let mut panics = text.lines().filter(|line| line.contains("panicked at"));
        ensure!(panics.all(|line| line.contains(CAUGHT_PANICS)), "the server panicked:\n{text}");
        Ok(text)
    }

    /// The whole text, after the process has ended.
    async fn finish(&mut self) -> Result<String> {
        if let Some(reading) = self.reading.take() {
            reading.await?;
        }
        self.text()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

async fn terminate(pid: u32) -> Result<()> {
    let status = Command::new("kill").arg(pid.to_string()).status().await?;
    ensure!(status.success(), "cannot send SIGTERM to the server");
    Ok(())
}

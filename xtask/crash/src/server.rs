//! The real server, as a process of its own.

use std::fmt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

/// Longer than any start of a store of these sizes, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Longer than the server gives itself for its shutdown.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// What the place of a panic contains that ends nothing: sled indexes blindly into what it reads from
/// damaged files. Its backend catches that and makes it an error, but the message is written first.
const CAUGHT_PANICS: &str = "/sled-0.";

/// How to start the server.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// What goes between `serve` and the rest.
    pub(crate) options: Vec<String>,
    /// Where the server keeps its data, as on its command line.
    pub(crate) storage: String,
    /// What starts it: nothing, or a program with arguments.
    pub(crate) wrapper: Vec<String>,
    /// The user to run as; that of this program if there is none.
    pub(crate) user: Option<u32>,
}

/// A process that has been started. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    out: tokio::io::Lines<BufReader<ChildStdout>>,
    started: Instant,
    log: Log,
}

/// What a server writes to its standard error.
///
/// A pipe and no file: what keeps the server from writing files must not keep it from logging.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    reading: Option<JoinHandle<()>>,
}

/// Why a server did not get as far as to listen.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: ExitStatus,
    pub(crate) message: String,
}

impl Program {
    /// Starts the process. Whether it comes to listen is another matter.
    pub(crate) fn spawn(&self) -> Result<Server> {
        let mut words = self.wrapper.iter().map(AsRef::as_ref).chain([self.binary.as_os_str()]);
        let first = words.next().context("there is a program")?;
        let mut command = Command::new(first);
        command.args(words).arg("serve").args(["--port", "0", "--storage", &self.storage]);
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
        let out = child.stdout.take().context("its standard output is a pipe")?;
        let out = BufReader::new(out).lines();
        let log = Log::new(child.stderr.take().context("its standard error is a pipe")?);
        Ok(Server { child, out, started, log })
    }

    /// Starts the server, which must come to listen. Returns its URL and the time it took.
    pub(crate) async fn start(&self) -> Result<(Server, String, Duration)> {
        let mut server = self.spawn()?;
        match server.listening().await? {
            Ok((url, time)) => Ok((server, url, time)),
            Err(refusal) => bail!("the server does not start: {refusal}"),
        }
    }
}

impl Server {
    /// Waits until the server says where it listens, or ends. May be dropped and called again.
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

    /// Kills the process, at once.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself with {status}: {}", self.log.finish().await?);
        }
        self.child.kill().await.context("cannot kill the server")?;
        self.log.finish().await.map(drop)
    }

    /// Asks the process to end, which it must do in order.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        terminate(self.pid()?).await?;
        let (status, log) = self.ended().await?;
        ensure!(status.success(), "the server ended with {status}: {log}");
        Ok(())
    }

    /// What the server has logged so far.
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

    /// What there is. It must not tell of a panic, unless that is one of sled's.
    fn text(&self) -> Result<String> {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let mut panics = text.lines().filter(|line| line.contains("panicked at"));
        ensure!(panics.all(|line| line.contains(CAUGHT_PANICS)), "the server panicked:\n{text}");
        Ok(text)
    }

    /// The same, when the process has ended.
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

//! A server that is started, again and again.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, Message};

use crate::client::Client;
use crate::error::BenchError;
use crate::measurement::Traffic;
use crate::process::{ServerProcess, Usage};
use crate::report::{Latency, Report, ServerCost};
use crate::target::Target;
use crate::workloads::load;

/// How long a server may take until it listens, and until it has stopped: opening a damaged or huge
/// store takes minutes at most.
const PATIENCE: Duration = Duration::from_mins(10);

/// How often a stopping server is looked at. That it has ended is not part of any figure.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Starts of a server on a store that has a CoValue, each until that has been loaded. Every start is
/// followed by an orderly stop.
#[derive(Debug, Clone)]
pub struct Starts {
    /// The server's program and its arguments. It says on its standard output where it listens, in
    /// any line with a word that begins with `ws://`.
    pub command: Vec<String>,
    /// What the first client asks for.
    pub load: CoValueId,
    /// How often.
    pub starts: usize,
}

/// One start.
struct Start {
    listening: Duration,
    answered: Duration,
    resident_before: u64,
    after: Usage,
}

/// A server that is killed when this is dropped, for whoever breaks off.
struct Running<'a> {
    process: Child,
    command: &'a [String],
}

impl Starts {
    /// Plays it. Latency is from the start of the process to the content of the CoValue, all of
    /// connecting included; CPU time is until then; memory is that of the last start.
    pub async fn run(&self) -> Result<Report, BenchError> {
        if self.starts == 0 || self.command.is_empty() {
            return Err(BenchError::Size("this needs a start and a program at least"));
        }
        let traffic = Traffic::default();
        let mut starts = Vec::with_capacity(self.starts);
        for _ in 0..self.starts {
            starts.push(self.start(&traffic).await?);
        }
        let seconds = starts.iter().map(|start| start.answered.as_secs_f64()).sum::<f64>();
        let cpu_seconds = starts.iter().map(|start| start.after.cpu.as_secs_f64()).sum::<f64>();
        #[allow(clippy::cast_precision_loss, reason = "nobody starts a server 2^52 times")]
        let count = starts.len() as f64;
        let (sent_bytes, received_bytes) = traffic.so_far();
        Ok(Report {
            workload: "starts".to_owned(),
            unit: "start",
            operations: starts.len() as u64,
            seconds,
            per_second: count / seconds,
            latency: Latency::of(starts.iter().map(|start| start.answered).collect()),
            listening: Latency::of(starts.iter().map(|start| start.listening).collect()),
            failed: 0,
            first_failure: None,
            server: starts.last().map(|last| ServerCost {
                cpu_seconds,
                cpu_per_operation: cpu_seconds / count * 1e6,
                resident_before: last.resident_before,
                resident_after: last.after.resident,
                resident_peak: last.after.peak,
            }),
            sent_bytes,
            received_bytes,
        })
    }

    async fn start(&self, traffic: &Traffic) -> Result<Start, BenchError> {
        let began = Instant::now();
        let mut server = Running::spawn(&self.command)?;
        let target = Target::new(&server.listening().await?);
        let listening = began.elapsed();
        let process = ServerProcess::new(server.process.id())?;
        let resident_before = process.usage()?.resident;

        let mut client = Client::connect(&target, traffic).await?;
        client.send(load(self.load)).await?;
        self.answered(&mut client).await?;
        let answered = began.elapsed();
        let after = process.usage()?;
        client.close().await;
        server.stop().await?;
        Ok(Start { listening, answered, resident_before, after })
    }

    /// Waits for the CoValue, behind what it depends on.
    async fn answered(&self, client: &mut Client) -> Result<(), BenchError> {
        let id = self.load;
        loop {
            for message in client.receive(|| id.to_string()).await? {
                match message {
                    Message::Content(content) if content.id == id => {
                        if content.header.is_some() {
                            return Ok(());
                        }
                        return Err(BenchError::Wrong(format!("{id} comes without its header")));
                    }
                    Message::Known(known) if known.state.id == id && !known.state.header => {
                        return Err(BenchError::Wrong(format!("{id} is not there")));
                    }
                    _ => {}
                }
            }
        }
    }
}

impl<'a> Running<'a> {
    fn spawn(command: &'a [String]) -> Result<Self, BenchError> {
        let [program, arguments @ ..] = command else {
            return Err(BenchError::Size("this needs a program"));
        };
        let mut process = Command::new(program);
        process.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        match process.spawn() {
            Ok(process) => Ok(Self { process, command }),
            Err(error) => {
                Err(BenchError::Program { program: program.clone(), problem: error.to_string() })
            }
        }
    }

    /// The URL that it names.
    async fn listening(&mut self) -> Result<String, BenchError> {
        let output = self.process.stdout.take();
        let reading = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(output?).lines();
            let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
                let mut words = line.split_ascii_whitespace();
                words.find(|word| word.starts_with("ws://")).map(str::to_owned)
            })?;
            // Its end of the pipe stays open, so that it can go on writing.
            std::thread::spawn(move || lines.for_each(drop));
            Some(url)
        });
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(Some(url))) => Ok(url),
            Ok(Ok(None)) => Err(self.problem("ended before it was listening")),
            Ok(Err(broken)) => std::panic::resume_unwind(broken.into_panic()),
            Err(_) => Err(self.problem("does not listen")),
        }
    }

    /// Ends it as an operator does.
    async fn stop(mut self) -> Result<(), BenchError> {
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        if !told.is_ok_and(|status| status.success()) {
            return Err(self.problem("cannot be told to stop"));
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match self.process.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.problem(&format!("stopped with {status}"))),
                Ok(None) => tokio::time::sleep(POLL_INTERVAL).await,
                Err(error) => return Err(self.problem(&error.to_string())),
            }
        }
        Err(self.problem("does not stop"))
    }

    fn problem(&self, problem: &str) -> BenchError {
        let program = self.command.first().cloned().unwrap_or_default();
        BenchError::Program { program, problem: problem.to_owned() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // It has usually ended; if not, nobody waits for what it would still do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(script: &str) -> Starts {
        let load = crate::author::Author::new(1).map("a", 0).id();
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Starts { command, load, starts: 1 }
    }

    #[tokio::test]
    async fn a_server_that_ends_at_once_is_an_error_that_names_it() {
        let error = starts("exit 1").run().await.unwrap_err();
        assert!(error.to_string().contains("sh: ended before it was listening"), "{error}");
        let none = Starts { command: vec!["./no-such-program".to_owned()], ..starts("") };
        assert!(matches!(none.run().await, Err(BenchError::Program { .. })));
        let never = Starts { starts: 0, ..starts("") };
        assert!(matches!(never.run().await, Err(BenchError::Size(_))));
    }
}

//! Repeated starts of a server.

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

/// The timeout for starting and for stopping a server. Opening a damaged or huge store takes
/// minutes.
const PATIENCE: Duration = Duration::from_mins(10);

/// The polling interval for a stopping server. The time of the stop is not measured.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Starts of a server on a store with a CoValue, each until the CoValue is loaded. An orderly stop
/// follows every start.
#[derive(Debug, Clone)]
pub struct Starts {
    /// The server's program and its arguments. The program prints its URL on standard output, as a
    /// word that begins with `ws://` in any line.
    pub command: Vec<String>,
    /// The CoValue that the first client loads.
    pub load: CoValueId,
    /// The number of starts.
    pub starts: usize,
}

/// One start.
struct Start {
    listening: Duration,
    answered: Duration,
    resident_before: u64,
    after: Usage,
}

/// A server process, killed when dropped.
struct Running<'a> {
    process: Child,
    command: &'a [String],
}

impl Starts {
    /// Runs the workload. Latency and CPU time are counted from the start of the process to the
    /// content of the CoValue, including the connection. Memory is measured at the last start.
    pub async fn run(&self) -> Result<Report, BenchError> {
        if self.starts == 0 || self.command.is_empty() {
            return Err(BenchError::Size("at least one start and a program are needed"));
        }
        let traffic = Traffic::default();
        let mut starts = Vec::with_capacity(self.starts);
        for _ in 0..self.starts {
            starts.push(self.start(&traffic).await?);
        }
        let seconds = starts.iter().map(|start| start.answered.as_secs_f64()).sum::<f64>();
        let cpu_seconds = starts.iter().map(|start| start.after.cpu.as_secs_f64()).sum::<f64>();
        #[allow(clippy::cast_precision_loss, reason = "a server never starts 2^52 times")]
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

    /// Waits for the CoValue, which comes after its dependencies.
    async fn answered(&self, client: &mut Client) -> Result<(), BenchError> {
        let id = self.load;
        loop {
            for message in client.receive(|| id.to_string()).await? {
                match message {
                    Message::Content(content) if content.id == id => {
                        if content.header.is_some() {
                            return Ok(());
                        }
                        return Err(BenchError::Wrong(format!("{id} has no header")));
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
            return Err(BenchError::Size("a program is needed"));
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

    /// The URL that the server prints.
    async fn listening(&mut self) -> Result<String, BenchError> {
        let output = self.process.stdout.take();
        let reading = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(output?).lines();
            let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
                let mut words = line.split_ascii_whitespace();
                words.find(|word| word.starts_with("ws://")).map(str::to_owned)
            })?;
            // The pipe stays open, so that the server can continue to write.
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

    /// Stops the server with a signal, as an operator does.
    async fn stop(mut self) -> Result<(), BenchError> {
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        if !told.is_ok_and(|status| status.success()) {
            return Err(self.problem("cannot be stopped"));
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
        // Usually the server has ended already. Otherwise its remaining work does not matter.
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

//! The reference, in a Node.js process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// A running reference, which answers batches of cases: one line of JSON in, one line out.
pub(crate) struct Reference {
    process: Child,
    requests: ChildStdin,
    responses: BufReader<ChildStdout>,
    /// The size of the batch that has been asked for and not been answered.
    outstanding: usize,
}

/// What the reference says to a case.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Answer {
    /// What is compared.
    pub(crate) answer: Value,
    /// More about it for people, as the text of an error.
    #[serde(default)]
    pub(crate) note: Option<String>,
}

impl Answer {
    /// Whether this says anything about the rule. Where the reference fails for reasons of its own,
    /// it has just a member of this name, and the case is counted and passed over.
    pub(crate) fn is_answer(&self) -> bool {
        self.answer.get("noAnswer").is_none()
    }
}

impl Reference {
    /// Starts the reference.
    pub(crate) fn start() -> Result<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/main.mjs");
        let mut process = Command::new("node")
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start Node.js")?;
        let requests = process.stdin.take().context("the process has no input")?;
        let responses = process.stdout.take().context("the process has no output")?;
        Ok(Self { process, requests, responses: BufReader::new(responses), outstanding: 0 })
    }

    /// Hands over a batch of cases. While the reference thinks about them, there is time for
    /// other work; then its answers must be fetched by [`Self::answers`].
    pub(crate) fn ask(&mut self, suite: &str, cases: &[Value]) -> Result<()> {
        ensure!(self.outstanding == 0, "the last batch has not been answered yet");
        self.outstanding = cases.len();
        let mut line = serde_json::to_vec(&json!({ "suite": suite, "cases": cases }))?;
        line.push(b'\n');
        self.requests.write_all(&line).context("the reference does not take questions")?;
        self.requests.flush().context("the reference does not take questions")
    }

    /// The answers to the last batch, in its order.
    pub(crate) fn answers(&mut self) -> Result<Vec<Answer>> {
        let mut line = String::new();
        self.responses.read_line(&mut line).context("the reference does not answer")?;
        if line.is_empty() {
            bail!("the reference has ended: {}", self.process.wait()?);
        }
        let answers: Vec<Answer> =
            serde_json::from_str(&line).context("the reference's answer is not understood")?;
        ensure!(answers.len() == self.outstanding, "the reference did not answer every case");
        self.outstanding = 0;
        Ok(answers)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Fails only for a process that has ended by itself meanwhile.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! The reference, in a Node.js process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// A running reference. It reads a batch of cases as a line of JSON, and answers with a line.
pub(crate) struct Reference {
    process: Child,
    requests: ChildStdin,
    responses: BufReader<ChildStdout>,
    /// The size of the unanswered batch.
    outstanding: usize,
}

/// The reference's answer to a case.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Answer {
    /// The compared part.
    pub(crate) answer: Value,
    /// Additional information, such as the text of an error.
    #[serde(default)]
    pub(crate) note: Option<String>,
}

impl Answer {
    /// Whether the answer can be compared. If the reference fails for an unrelated reason, the
    /// answer has only the member `noAnswer`. Such cases are counted and skipped.
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

    /// Sends a batch of cases. The reference processes them in parallel; [`Self::answers`] must be
    /// called afterwards.
    pub(crate) fn ask(&mut self, suite: &str, cases: &[Value]) -> Result<()> {
        ensure!(self.outstanding == 0, "the last batch has not been answered yet");
        self.outstanding = cases.len();
        let mut line = serde_json::to_vec(&json!({ "suite": suite, "cases": cases }))?;
        line.push(b'\n');
        self.requests.write_all(&line).context("cannot write to the reference")?;
        self.requests.flush().context("cannot write to the reference")
    }

    /// The answers to the last batch, in order.
    pub(crate) fn answers(&mut self) -> Result<Vec<Answer>> {
        let mut line = String::new();
        self.responses.read_line(&mut line).context("cannot read from the reference")?;
        if line.is_empty() {
            bail!("the reference has ended: {}", self.process.wait()?);
        }
        let answers: Vec<Answer> =
            serde_json::from_str(&line).context("the reference's answer is not valid")?;
        ensure!(answers.len() == self.outstanding, "the reference did not answer every case");
        self.outstanding = 0;
        Ok(answers)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! The content that a tool found broken or left out.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use downbeat_protocol::{CoValueId, Printable, SessionId};
use serde::{Serialize, Serializer};

use crate::check::Reason;

/// Findings that are kept, about 300 bytes each. More are only counted: a longer list does not
/// help, and memory must not grow with the damage.
const MAX_KEPT: usize = 100_000;

/// A problem, and its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The line of a portable file. The first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The CoValue, if the problem belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub co_value: Option<CoValueId>,
    /// The session, if the problem belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The problem. In JSON its text is complete and as it was found: [`Display`](fmt::Display)
    /// is for terminals.
    #[serde(serialize_with = "as_text")]
    pub reason: Reason,
}

/// Collects findings from several threads.
#[derive(Default)]
pub(crate) struct Findings(Mutex<Found>);

#[derive(Default)]
struct Found {
    kept: Vec<Finding>,
    more: u64,
}

/// The findings of a run, sorted by line, CoValue and session.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FindingsReport {
    /// The first findings, up to 100,000.
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub more_findings: u64,
}

impl Findings {
    /// Adds a problem of a CoValue.
    pub(crate) fn add(&self, id: CoValueId, session: Option<&SessionId>, reason: Reason) {
        self.push(Finding { line: None, co_value: Some(id), session: session.cloned(), reason });
    }

    /// Adds a finding.
    pub(crate) fn push(&self, finding: Finding) {
        let mut found = self.lock();
        if found.kept.len() < MAX_KEPT {
            found.kept.push(finding);
        } else {
            found.more += 1;
        }
    }

    /// Takes all findings out, sorted.
    pub(crate) fn report(&self) -> FindingsReport {
        let Found { kept: mut findings, more } = std::mem::take(&mut *self.lock());
        sort(&mut findings);
        FindingsReport { findings, more_findings: more }
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sort(findings: &mut [Finding]) {
    findings
        .sort_by(|a, b| (a.line, a.co_value, &a.session).cmp(&(b.line, b.co_value, &b.session)));
}

impl FindingsReport {
    /// Adds findings from another source.
    pub(crate) fn add(&mut self, findings: impl Iterator<Item = Finding>) {
        self.findings.extend(findings);
        sort(&mut self.findings);
        let more = self.findings.len().saturating_sub(MAX_KEPT);
        self.findings.truncate(MAX_KEPT);
        self.more_findings += more as u64;
    }

    /// Whether there are no findings.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// The number of findings, including those that are only counted.
    pub fn count(&self) -> u64 {
        self.findings.len() as u64 + self.more_findings
    }

    /// Writes one line per finding.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
        }
        if self.more_findings > 0 {
            writeln!(out, "… and {} more", self.more_findings)?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(id) = self.co_value {
            write!(f, "{id}: ")?;
        }
        if let Some(session) = &self.session {
            write!(f, "{session}: ")?;
        }
        write!(f, "{}", Printable(&self.reason))
    }
}

fn as_text<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_complete_in_json_and_printable_in_a_line() {
        let text = format!("a\u{1b}[2J{}", "b".repeat(10_000));
        let reason = Reason::Malformed(text.clone());
        let finding = Finding { line: Some(1), co_value: None, session: None, reason };
        assert_eq!(serde_json::to_value(&finding).unwrap()["reason"], text);
        let line = finding.to_string();
        assert!(line.starts_with(r"line 1: a\u{1b}[2J"), "{line}");
        assert!(line.len() < text.len());
    }
}

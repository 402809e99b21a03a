//! What was found to be wrong, or was left out.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use downbeat_protocol::{CoValueId, SessionId};
use serde::{Serialize, Serializer};

use super::check::Reason;

/// Findings that are kept and told, about 300 bytes each. Beyond that they are counted only: a
/// list of more helps nobody, and memory must not grow with the damage.
const MAX_KEPT: usize = 100_000;

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// The line of the file, where a file is read. The first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The CoValue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub co_value: Option<CoValueId>,
    /// The session, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// What is wrong.
    #[serde(serialize_with = "as_text")]
    pub reason: Reason,
}

/// All that was found, by several threads.
#[derive(Default)]
pub(crate) struct Findings(Mutex<Found>);

#[derive(Default)]
struct Found {
    kept: Vec<Finding>,
    more: u64,
}

/// The findings in order, and how many more there are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Those that were kept.
    pub findings: Vec<Finding>,
    /// The number of those that were not.
    pub more_findings: u64,
}

impl Findings {
    /// Adds what was found in a CoValue.
    pub(crate) fn add(&self, id: CoValueId, session: Option<&SessionId>, reason: Reason) {
        self.push(Finding { line: None, co_value: Some(id), session: session.cloned(), reason });
    }

    /// Adds something that was found.
    pub(crate) fn push(&self, finding: Finding) {
        let mut found = self.lock();
        if found.kept.len() < MAX_KEPT {
            found.kept.push(finding);
        } else {
            found.more += 1;
        }
    }

    /// Takes everything out, sorted by line, CoValue and session.
    pub(crate) fn report(&self) -> Report {
        let Found { kept: mut findings, more } = std::mem::take(&mut *self.lock());
        findings.sort_by(|a, b| {
            (a.line, a.co_value, &a.session).cmp(&(b.line, b.co_value, &b.session))
        });
        Report { findings, more_findings: more }
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Writes a line for each finding.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
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
        write!(f, "{}", self.reason)
    }
}

fn as_text<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason)
}

//! The log of a run: a line for each event, with short names instead of ids.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use downbeat_protocol::{Content, KnownState, Message, SessionCounts};
use downbeat_sync::Millis;

/// The log of a run. It stays empty if no log is wanted.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: Option<Vec<String>>,
    names: BTreeMap<String, String>,
}

impl Log {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { lines: wanted.then(Vec::new), names: BTreeMap::new() }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, now: Millis, line: impl FnOnce() -> String) {
        if self.lines.is_some() {
            let line = self.shorten(&format!("{now:>7} {}", line()));
            if let Some(lines) = &mut self.lines {
                lines.push(line);
            }
        }
    }

    /// Sets the name that replaces an id in the log.
    pub(crate) fn name(&mut self, id: &str, name: impl FnOnce() -> String) {
        if self.lines.is_some() {
            self.names.entry(id.to_owned()).or_insert_with(name);
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    /// Replaces ids with names.
    pub(crate) fn shorten(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (id, name) in &self.names {
            if line.contains(id.as_str()) {
                line = line.replace(id.as_str(), name);
            }
        }
        line
    }
}

/// A message as text: `CONTENT map1 header s1:0+2`.
pub(crate) fn describe(message: &Message) -> String {
    let mut line = message.action().to_uppercase();
    match message {
        Message::Load(state) => line.push_str(&describe_state(state)),
        Message::Known(known) => {
            if known.is_correction {
                line.push_str(" CORRECTION");
            }
            line.push_str(&describe_state(&known.state));
        }
        Message::Content(content) => line.push_str(&describe_content(content)),
        Message::Done(id) => line.push_str(id.as_str()),
        Message::Reconcile(reconcile) => {
            line.push(' ');
            line.push_str(&reconcile.id);
            for (id, _) in &reconcile.values {
                line.push(' ');
                line.push_str(id.as_str());
            }
        }
        Message::ReconcileAck(batch) => line.push_str(batch),
        Message::Unknown(unknown) => line.push_str(unknown.id.as_str()),
    }
    line
}

fn describe_state(state: &KnownState) -> String {
    let header = if state.header { " header" } else { " nothing" };
    format!(" {}{header}{}", state.id, describe_counts(&state.sessions))
}

/// Counts as text: ` s1:2 s2:1`.
pub(crate) fn describe_counts(counts: &SessionCounts) -> String {
    let counts = counts.iter().map(|(session, count)| format!(" {session}:{count}"));
    counts.collect::<Vec<_>>().concat()
}

fn describe_content(content: &Content) -> String {
    let mut line = format!(" {}", content.id);
    if content.header.is_some() {
        line.push_str(" header");
    }
    for run in &content.sessions {
        // Writing to a string does not fail.
        let _ = write!(line, " {}:{}+{}", run.session, run.after, run.transactions.len());
    }
    if let Some(until) = &content.expect_content_until {
        line.push_str(" until");
        line.push_str(&describe_counts(until));
    }
    line
}

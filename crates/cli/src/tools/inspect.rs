//! `downbeat inspect`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, bail};
use downbeat_core::dependencies;
use downbeat_core::roles::Role;
use downbeat_protocol::{CoValueId, Ruleset, SessionCounts, SessionId, Transaction};
use downbeat_storage::{StorageError, Stored};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use super::check::{Checked, Extension, Reason, check};
use super::directory::Directory;
use super::findings::{Findings, Report};
use super::store::Store;
use super::writer::json_len;
use super::{EXIT_CODES, Ending, grouped, human_bytes, print_json};
use crate::storage::StorageChoice;

/// Show what is stored of a CoValue: header, sessions, counts, sizes, dependencies, and the roles
/// in its group as they are now.
///
/// Everything is read and checked; what is broken is listed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The CoValue: `co_z…`.
    id: CoValueId,
    /// The store: `sled:DIR` or `sqlite:FILE`.
    #[arg(default_value = "sled:./downbeat-data")]
    store: StorageChoice,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat inspect co_zXk3sBHNtxzCZXGWPPG9aqBnRsUi sled:./downbeat-data
  downbeat inspect --json co_zXk3sBHNtxzCZXGWPPG9aqBnRsUi | jq '.sessions[].transactions'

Exit codes:
  0  it is shown, and all of it holds
  1  an error: it is not in the store, for one
  2  a wrong command line
  3  it is shown, and something in it is broken";

/// What is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: CoValueId,
    kind: &'static str,
    deleted: bool,
    header: Box<RawValue>,
    sessions: Vec<Session>,
    /// What of all sessions holds.
    transactions: u64,
    bytes: u64,
    dependencies: Vec<Dependency>,
    /// The group whose roles decide who may write; the CoValue itself, if it is one.
    group: Option<CoValueId>,
    /// `null` where the group, or one of its parents, is not in the store.
    roles: Option<Vec<Granted>>,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    #[serde(rename = "session")]
    id: SessionId,
    /// As many as the store counts.
    transactions: u64,
    /// Bytes of JSON of those that hold.
    bytes: u64,
    /// Milliseconds since the Unix epoch, as the author says.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_made_at: Option<f64>,
    last_signature: String,
    /// Whether all of it was read and holds.
    holds: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    id: CoValueId,
    stored: bool,
}

#[derive(Serialize)]
struct Granted {
    member: String,
    role: &'static str,
}

/// What was read of a session.
#[derive(Default)]
struct Read {
    count: u64,
    bytes: u64,
    last_made_at: Option<f64>,
}

/// Shows a CoValue.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let store = Store::open_existing(&options.store, runtime)?;
    let Some(stored) = store.load(options.id)? else {
        bail!("{} is not in {}", options.id, options.store);
    };
    let shown = look(&store, options.id, &stored)?;
    store.close()?;
    if options.json {
        print_json(&shown)?;
    } else {
        shown.print(&mut io::stdout().lock())?;
    }
    Ok(if shown.report.is_empty() { Ending::Fine } else { Ending::Found })
}

fn look(store: &Store, id: CoValueId, stored: &Stored) -> anyhow::Result<Shown> {
    let header = &stored.header;
    let findings = Findings::default();
    let directory = Directory::new(vec![store.clone()]);
    let mut needs = dependencies::of_header(header);
    needs.extend(dependencies::of_sessions(stored.sessions.iter().map(|stored| &stored.session)));
    let mut read: BTreeMap<SessionId, Read> = BTreeMap::new();
    match Checked::new(id, header.clone()) {
        Ok(mut checked) => {
            let gather = |_: &Checked, extensions: Vec<Extension>| {
                for Extension { content, .. } in extensions {
                    if header.is_group() {
                        let set = dependencies::of_group_transactions(&content.transactions);
                        needs.extend(set);
                    }
                    let bytes = json_len(&content) as u64;
                    let read = read.entry(content.session).or_default();
                    read.count += content.transactions.len() as u64;
                    read.bytes += bytes;
                    read.last_made_at = content.transactions.last().map(Transaction::made_at);
                }
                Ok::<_, StorageError>(())
            };
            let refuse = |session: Option<&SessionId>, reason| findings.add(id, session, reason);
            check(store, SessionCounts::new(), &mut checked, &directory, gather, refuse)?;
            if stored.deleted && !checked.is_deleted() {
                findings.add(id, None, Reason::NotDeleted);
            }
        }
        Err(reason) => findings.add(id, None, reason),
    }
    let group = match header.ruleset() {
        Ruleset::Group { .. } => Some(id),
        Ruleset::OwnedByGroup { group } => Some(*group),
        Ruleset::UnsafeAllowAll => None,
    };
    let roles = match group {
        Some(group) => roles(store, &directory, group)?,
        None => None,
    };
    let json = str::from_utf8(header.json()).context("the header is no text")?;
    Ok(Shown {
        id,
        kind: kind(stored),
        deleted: stored.deleted,
        header: RawValue::from_string(json.to_owned())?,
        transactions: read.values().map(|read| read.count).sum(),
        bytes: read.values().map(|read| read.bytes).sum(),
        sessions: sessions(stored, &read),
        dependencies: look_up(store, id, needs)?,
        group,
        roles,
        report: findings.report(),
    })
}

fn sessions(stored: &Stored, read: &BTreeMap<SessionId, Read>) -> Vec<Session> {
    let none = Read::default();
    stored
        .sessions
        .iter()
        .map(|stored| {
            let read = read.get(&stored.session).unwrap_or(&none);
            Session {
                id: stored.session.clone(),
                transactions: stored.count,
                bytes: read.bytes,
                last_made_at: read.last_made_at,
                last_signature: stored.last_signature.to_string(),
                holds: read.count == stored.count,
            }
        })
        .collect()
}

fn look_up(
    store: &Store,
    id: CoValueId,
    mut needs: Vec<CoValueId>,
) -> Result<Vec<Dependency>, StorageError> {
    needs.retain(|other| *other != id);
    needs.sort_unstable();
    needs.dedup();
    let stored = |id| match store.load(id) {
        Ok(stored) => Ok(Dependency { id, stored: stored.is_some() }),
        // It is there, whatever became of it.
        Err(StorageError::Corrupt(_)) => Ok(Dependency { id, stored: true }),
        Err(error) => Err(error),
    };
    needs.into_iter().map(stored).collect()
}

/// The roles that members have now, in a group and through its parents.
fn roles(
    store: &Store,
    directory: &Directory,
    group: CoValueId,
) -> Result<Option<Vec<Granted>>, StorageError> {
    let Some(mut groups) = directory.load_groups(store, group)? else { return Ok(None) };
    let mut granted = Vec::new();
    for member in &groups.members {
        match groups.roles.role_of(group, member, None) {
            Ok(Some(role)) => {
                granted
                    .push(Granted { member: member.as_str().to_owned(), role: Role::as_str(role) });
            }
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(granted))
}

fn kind(stored: &Stored) -> &'static str {
    let header = &stored.header;
    match header.ruleset() {
        Ruleset::Group { .. } if header.account_agent().is_some() => "account",
        Ruleset::Group { .. } => "group",
        Ruleset::OwnedByGroup { .. } => "owned by a group",
        Ruleset::UnsafeAllowAll => "open to everyone",
    }
}

impl Shown {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let deleted = if self.deleted { ", deleted" } else { "" };
        writeln!(out, "{}  ({}{deleted})", self.id, self.kind)?;
        writeln!(out, "\nheader\n  {}", self.header)?;
        writeln!(
            out,
            "\nsessions: {}, with {} transactions ({})",
            grouped(self.sessions.len() as u64),
            grouped(self.transactions),
            human_bytes(self.bytes),
        )?;
        if !self.sessions.is_empty() {
            writeln!(out, "  {:>12}  {:>12}  session", "transactions", "size")?;
        }
        for session in &self.sessions {
            let count = grouped(session.transactions);
            let size = human_bytes(session.bytes);
            let note = if session.holds { "" } else { "  (broken)" };
            writeln!(out, "  {count:>12}  {size:>12}  {}{note}", session.id)?;
        }
        if !self.dependencies.is_empty() {
            writeln!(out, "\ndependencies")?;
        }
        for dependency in &self.dependencies {
            let note = if dependency.stored { "" } else { "  (not in the store)" };
            writeln!(out, "  {}{note}", dependency.id)?;
        }
        if let Some(group) = self.group {
            writeln!(out, "\nroles in {group} now")?;
            match &self.roles {
                Some(roles) if roles.is_empty() => writeln!(out, "  nobody has one")?,
                Some(roles) => {
                    for Granted { member, role } in roles {
                        writeln!(out, "  {role:<18}{member}")?;
                    }
                }
                None => writeln!(out, "  not known: it or a parent of it is not in the store")?,
            }
        }
        if !self.report.is_empty() {
            writeln!(out, "\nbroken")?;
            self.report.print(out)?;
        }
        Ok(())
    }
}

//! `downbeat inspect`.

use std::io::{self, Write};

use anyhow::bail;
use downbeat_protocol::{CoValueId, Printable};
use downbeat_tools::{Inspected, RoleOf, inspect};
use tokio::runtime::Handle;

use super::{DEFAULT_STORE, EXIT_CODES, Ending, grouped, human_bytes, open, print_json};
use crate::storage::StorageChoice;

/// Show one CoValue of a store: its header, sessions, sizes, dependencies, and the present roles in
/// its group.
///
/// Reads and checks all its content, and lists problems.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// The id of the CoValue: `co_z…`.
    id: CoValueId,
    /// The store: `data:DIR`, `sqlite:FILE` or `sled:DIR`.
    #[arg(default_value = DEFAULT_STORE)]
    store: StorageChoice,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  downbeat inspect co_zXk3sBHNtxzCZXGWPPG9aqBnRsUi data:./downbeat-data
  downbeat inspect --json co_zXk3sBHNtxzCZXGWPPG9aqBnRsUi | jq '.sessions[].transactions'

Exit codes:
  0  the CoValue is valid
  1  an error, for example: it is not in the store
  2  a wrong command line
  3  a part of the CoValue is broken and is listed";

/// Shows a CoValue.
pub(super) fn run(options: &Options, runtime: &Handle) -> anyhow::Result<Ending> {
    let store = open::existing(&options.store, runtime)?;
    let Some(inspected) = inspect(&store, options.id)? else {
        bail!("{} is not in {}", options.id, options.store);
    };
    store.close()?;
    if options.json {
        print_json(&inspected)?;
    } else {
        print(&inspected, &mut io::stdout().lock())?;
    }
    Ok(Ending::of(&inspected.report))
}

fn print(inspected: &Inspected, out: &mut impl Write) -> io::Result<()> {
    let deleted = if inspected.deleted { ", deleted" } else { "" };
    writeln!(out, "{}  ({}{deleted})", inspected.id, inspected.kind)?;
    writeln!(out, "\nheader\n  {}", Printable(&inspected.header))?;
    writeln!(
        out,
        "\nsessions: {}, with {} transactions ({})",
        grouped(inspected.sessions.len() as u64),
        grouped(inspected.transactions),
        human_bytes(inspected.bytes),
    )?;
    if !inspected.sessions.is_empty() {
        writeln!(out, "  {:>12}  {:>12}  session", "transactions", "size")?;
    }
    for session in &inspected.sessions {
        let count = grouped(session.transactions);
        let size = human_bytes(session.bytes);
        let note = if session.holds { "" } else { "  (broken)" };
        writeln!(out, "  {count:>12}  {size:>12}  {}{note}", session.id)?;
    }
    if !inspected.dependencies.is_empty() {
        writeln!(out, "\ndependencies")?;
    }
    for dependency in &inspected.dependencies {
        let note = if dependency.stored { "" } else { "  (not in the store)" };
        writeln!(out, "  {}{note}", dependency.id)?;
    }
    if let Some(group) = inspected.group {
        writeln!(out, "\npresent roles in {group}")?;
        match &inspected.roles {
            Some(roles) if roles.is_empty() => writeln!(out, "  none")?,
            Some(roles) => {
                for RoleOf { member, role, .. } in roles {
                    writeln!(out, "  {role:<18}{}", Printable(member))?;
                }
            }
            None => writeln!(out, "  unknown: the group or one of its parents is not stored")?,
        }
    }
    if !inspected.report.is_empty() {
        writeln!(out, "\nbroken")?;
        inspected.report.print(out)?;
    }
    Ok(())
}

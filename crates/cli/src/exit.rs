//! Exit codes, as `downbeat --help` and `docs/operations.md` list them.

use std::process::ExitCode;

use downbeat_node::NodeError;

use crate::config::Problems;

/// Something failed: the port is taken, the storage cannot be opened, a bug has stopped the server.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong; clap exits with the same code.
const WRONG_CONFIGURATION: u8 = 2;
/// The server stopped before everything that it had taken in was stored. None of that was
/// acknowledged.
const NOT_DRAINED: u8 = 3;

/// Says on standard error what went wrong, and turns it into the exit code.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if let Some(problems) = error.downcast_ref::<Problems>() {
        for line in problems.to_string().lines() {
            eprintln!("downbeat: {line}");
        }
        return WRONG_CONFIGURATION.into();
    }
    eprintln!("downbeat: {error:#}");
    match error.downcast_ref::<NodeError>() {
        Some(NodeError::NotDrained(_)) => NOT_DRAINED.into(),
        _ => FAILED.into(),
    }
}

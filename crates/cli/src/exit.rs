//! The exit codes. `downbeat --help` and `docs/operations.md` list them.

use std::io::Write;
use std::process::ExitCode;

use downbeat_node::NodeError;

use crate::config::Problems;
use crate::signals::ForcedShutdown;

/// Something failed: the port is taken, the storage cannot be opened, a bug has stopped the server.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong. clap exits with the same code.
const WRONG_CONFIGURATION: u8 = 2;
/// The server stopped before it had stored all received content. The lost part was not
/// acknowledged. The tools use the same code if they left content out.
const UNFINISHED: u8 = 3;

/// The text in `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  success; the server has shut down cleanly
  1  an error, which standard error describes
  2  the command line or the configuration is wrong
  3  incomplete: content that was not acknowledged may be lost (serve), or content is broken or was
     left out (tools)";

/// Prints an error on standard error, and returns the exit code.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    report_to(&mut std::io::stderr(), result)
}

/// The same on another output.
pub(crate) fn report_to(out: &mut dyn Write, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let (text, code) = match error.downcast_ref::<Problems>() {
        Some(problems) => (problems.to_string(), WRONG_CONFIGURATION),
        None if is_unfinished(&error) => (format!("{error:#}"), UNFINISHED),
        None => (format!("{error:#}"), FAILED),
    };
    for line in text.lines() {
        // If standard error is closed, the exit code still shows the failure.
        let _ = out.write_all(format!("downbeat: {line}\n").as_bytes());
    }
    code.into()
}

/// Whether an error means unfinished work rather than a failure.
fn is_unfinished(error: &anyhow::Error) -> bool {
    error.is::<ForcedShutdown>()
        || matches!(error.downcast_ref::<NodeError>(), Some(NodeError::NotDrained(_)))
}

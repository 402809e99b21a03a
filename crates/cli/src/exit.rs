//! The exit codes. `downbeat --help` and `docs/operations.md` list them.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use downbeat_node::NodeError;
use downbeat_protocol::Printable;

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
    print_error(out, &error);
    let code = match error.downcast_ref::<Problems>() {
        Some(_) => WRONG_CONFIGURATION,
        None if is_unfinished(&error) => UNFINISHED,
        None => FAILED,
    };
    code.into()
}

/// Prints an error. Its text may repeat texts of peers and files.
pub(crate) fn print_error(out: &mut dyn Write, error: &anyhow::Error) {
    let mut print = |text: &dyn Display| {
        // If standard error is closed, the exit code still shows the failure.
        let _ = out.write_all(format!("downbeat: {}\n", Printable(text)).as_bytes());
    };
    match error.downcast_ref::<Problems>() {
        // A line or more for each problem.
        Some(problems) => problems.to_string().lines().for_each(|line| print(&line)),
        None => print(&format_args!("{error:#}")),
    }
}

/// Whether an error means unfinished work rather than a failure.
fn is_unfinished(error: &anyhow::Error) -> bool {
    error.is::<ForcedShutdown>()
        || matches!(error.downcast_ref::<NodeError>(), Some(NodeError::NotDrained(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_a_text_of_a_stranger_is_one_line_without_escapes() {
        let error =
            anyhow::anyhow!("refused: a\ndownbeat: stopped\u{1b}[2J").context("no connection");
        let mut out = Vec::new();
        print_error(&mut out, &error);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "downbeat: no connection: refused: a\\ndownbeat: stopped\\u{1b}[2J\n");
    }
}

//! Exit codes, as `downbeat --help` and `docs/operations.md` list them.

use std::io::Write;
use std::process::ExitCode;

use crate::config::Problems;
use crate::serve;

/// Something failed: the port is taken, the storage cannot be opened, a bug has stopped the server.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong; clap exits with the same code.
const WRONG_CONFIGURATION: u8 = 2;
/// The server stopped before everything that it had taken in was stored. None of that was
/// acknowledged. The tools have the same code for work that was done in part.
const UNFINISHED: u8 = 3;

/// What `--help` says of them.
pub(crate) const HELP: &str = "\
Exit codes:
  0  all is well; the server has stopped in order
  1  something failed, and standard error says what
  2  the command line or the configuration is wrong
  3  not everything was finished: what had not been acknowledged may be lost (serve), or something
     was left out (tools)";

/// Says on standard error what went wrong, and turns it into the exit code.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    report_to(&mut std::io::stderr(), result)
}

/// The same on another output.
pub(crate) fn report_to(out: &mut dyn Write, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let (text, code) = match error.downcast_ref::<Problems>() {
        Some(problems) => (problems.to_string(), WRONG_CONFIGURATION),
        None if serve::is_unfinished(&error) => (format!("{error:#}"), UNFINISHED),
        None => (format!("{error:#}"), FAILED),
    };
    for line in text.lines() {
        // The exit code tells the rest, if nothing can be written.
        let _ = out.write_all(format!("downbeat: {line}\n").as_bytes());
    }
    code.into()
}

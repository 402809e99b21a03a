//! The `downbeat` binary. Its code is in `downbeat-cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    downbeat_cli::main()
}

//! Log lines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Sends on what is left when it is dropped.
#[must_use]
pub(crate) struct LogGuard;

/// Starts logging as the configuration says.
pub(crate) fn init(config: &Config) -> anyhow::Result<LogGuard> {
    let filter = EnvFilter::try_new(&config.log)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => builder.init(),
        // Fields beside the message, where programs that collect logs look for them.
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(LogGuard)
}

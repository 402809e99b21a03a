//! Tests of the real binary, with flags, files, variables and signals.

mod access;
mod admin;
mod config;
mod docs;
mod examples;
mod log;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(unix)]
mod open_files;
mod program;
mod stopping;
mod tcp;
mod tls;
#[cfg(unix)]
mod upstream;

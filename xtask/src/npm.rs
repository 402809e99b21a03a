//! The npm packages of the Node.js programs, installed from the lock file when they are not there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::steps::run;
use crate::tools;

/// Installs the packages of `folder` if they are missing or older than what they are made from.
pub(crate) fn install(folder: &Path) -> Result<()> {
    if is_current(folder) {
        return Ok(());
    }
    println!("    installing the npm packages of {}", folder.display());
    run(Command::new(tools::npm()).arg("ci").current_dir(folder)).context("npm ci failed")
}

/// Whether `npm ci` has finished since the lock file was last changed.
fn is_current(folder: &Path) -> bool {
    // npm writes this file when the installation is complete.
    let Some(installed) = changed(&folder.join("node_modules/.package-lock.json")) else {
        return false;
    };
    [".npmrc", "package.json", "package-lock.json"]
        .iter()
        .all(|source| changed(&folder.join(source)).is_some_and(|source| source <= installed))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

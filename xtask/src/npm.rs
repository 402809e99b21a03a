//! Installs the npm packages of the Node.js programs from the lock file, and builds packages with
//! native code from source.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::steps::run;
use crate::tools;

/// Installs the packages of `folder` if they are missing or older than the lock file.
pub(crate) fn install(folder: &Path) -> Result<()> {
    if is_current(folder) {
        return Ok(());
    }
    println!("    installing the npm packages of {}", folder.display());
    run(Command::new(tools::npm()).arg("ci").current_dir(folder)).context("npm ci failed")
}

/// Builds `better-sqlite3`, the storage of the reference, in `folder`.
pub(crate) fn build_better_sqlite3(folder: &Path) -> Result<()> {
    build(folder, "better-sqlite3", "new (require('better-sqlite3'))(':memory:')")
}

/// Builds a package of `folder` with native code from source, unless Node.js can already load it.
/// `probe` is a JavaScript expression that fails if it cannot.
///
/// No binaries are downloaded. The build needs Python, a C++ compiler and the headers of Node.js;
/// `node-gyp` downloads the headers if Node.js was installed without them.
fn build(folder: &Path, package: &str, probe: &str) -> Result<()> {
    if loads(folder, probe)? {
        return Ok(());
    }
    println!("    building the npm package {package} from source, which takes a minute");
    let mut npm = Command::new(tools::npm());
    npm.args(["rebuild", package, "--ignore-scripts=false"]).current_dir(folder);
    npm.env("npm_config_build_from_source", "true").env("npm_config_jobs", "max");
    if let Some(prefix) = tools::node_with_headers() {
        npm.env("npm_config_nodedir", prefix);
    }
    let hint = "it needs Python 3, make, a C++ compiler and the headers of Node.js";
    run(&mut npm).with_context(|| format!("cannot build the npm package {package}: {hint}"))?;
    if !loads(folder, probe)? {
        bail!("Node.js cannot load the npm package {package}, although it was built");
    }
    Ok(())
}

fn loads(folder: &Path, probe: &str) -> Result<bool> {
    let mut node = Command::new("node");
    node.args(["--eval", probe]).current_dir(folder).stderr(Stdio::null());
    Ok(node.status().context("cannot run node")?.success())
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

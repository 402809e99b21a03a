//! `cargo xtask metrics`: the output of `/metrics` and the alert rules, checked by `promtool`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::server::{Folder, Running};
use crate::steps::{self, Steps};
use crate::tools::{self, PROMTOOL};
use crate::workspace::{Profile, binary, build, root};

/// The time limit for an answer of the server.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Check the metrics and the alert rules with Prometheus' promtool.
///
/// Checks `/metrics` of a server in both formats, and the rules in docs/deploy with their tests.
#[derive(Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<()> {
    tools::require_promtool()?;
    let mut steps = Steps::new(STEPS + 1);
    steps.command("server", &mut build(Profile::Debug))?;
    self::steps(&mut steps)?;
    steps.finish();
    Ok(())
}

/// The number of steps in [`steps()`].
pub(crate) const STEPS: usize = 3;

/// The steps of the full test command. They need a built server.
pub(crate) fn steps(steps: &mut Steps) -> Result<()> {
    steps.step("metrics", "cargo xtask metrics", check_metrics)?;
    steps.command("alert rules", &mut promtool(&["check", "rules", "docs/deploy/alerts.yaml"]))?;
    steps.command(
        "tests of alert rules",
        &mut promtool(&["test", "rules", "docs/deploy/alerts.test.yaml"]),
    )
}

/// Checks the metrics of a server with all features: keys, an upstream, TLS, and a store on disk.
fn check_metrics() -> Result<()> {
    let folder = Folder::new("downbeat-metrics")?;
    let program = binary(Profile::Debug)?;
    let key_file = folder.path.join("keys.toml");
    let mut key = Command::new(&program);
    key.args(["key", "add", "app", "--keys"]).arg(&key_file);
    steps::run(key.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let certificates = root().join("xtask/interop/lib/certificates");
    let mut serve = Command::new(&program);
    serve.current_dir(&folder.path).args(["serve", "--port", "0", "--admin-port", "0"]);
    serve.args(["--storage", "data:data", "--access", "keys", "--keys"]).arg(&key_file);
    serve.args(["--upstream", "ws://127.0.0.1:9", "--tls-cert"]);
    serve.arg(certificates.join("server.pem")).arg("--tls-key");
    serve.arg(certificates.join("server-key.pem"));
    let server = Running::start(&mut serve)?;
    let admin = server.admin()?;
    check_plain_text(&get_metrics(&admin, "text/plain;version=0.0.4")?)?;
    check_open_metrics(
        &get_metrics(&admin, "application/openmetrics-text;version=1.0.0")?,
        &folder.path,
    )
}

/// Checks the text format 0.0.4, the only one that `promtool check metrics` reads.
fn check_plain_text(metrics: &str) -> Result<()> {
    let mut child = promtool(&["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start promtool")?;
    let written = child.stdin.take().context("no standard input")?.write_all(metrics.as_bytes());
    let status = child.wait()?;
    ensure!(status.success(), "promtool does not accept the text format: {status}");
    written.context("promtool did not read the metrics")
}

/// Checks `OpenMetrics` through the import of old samples, which needs a time for each sample.
fn check_open_metrics(metrics: &str, folder: &Path) -> Result<()> {
    let mut samples = String::new();
    for line in metrics.lines() {
        samples.push_str(line);
        if !line.starts_with('#') {
            samples.push_str(" 1700000000");
        }
        samples.push('\n');
    }
    let file = folder.join("openmetrics.txt");
    fs::write(&file, samples)?;
    let mut import = promtool(&["tsdb", "create-blocks-from", "openmetrics"]);
    import.arg(&file).arg(folder.join("blocks")).stdout(Stdio::null());
    steps::run(&mut import).context("promtool does not accept OpenMetrics")
}

fn promtool(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROMTOOL);
    command.current_dir(root()).args(arguments);
    command
}

/// The body of `/metrics`.
fn get_metrics(admin: &str, accept: &str) -> Result<String> {
    let address = admin.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).context("the admin port does not answer")?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("/metrics does not answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("/metrics answers without a head")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "/metrics does not answer with 200: {head}");
    ensure!(!body.is_empty(), "/metrics is empty");
    Ok(body.to_owned())
}

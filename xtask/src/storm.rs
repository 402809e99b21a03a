//! `cargo xtask bench storm`: many clients reconnect at once to Downbeat and to the reference
//! server, directly, behind nginx, and with TLS.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;
use tempfile::TempDir;

use crate::npm;
use crate::steps::{Steps, run as run_command};
use crate::tools;
use crate::workspace::{Profile, binary, build, root};

/// The time limit for nginx to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much longer than the reference Downbeat may take: the noise between two runs of one server.
const TOLERANCE: f64 = 1.1;

/// Reconnect many clients at once: `cargo xtask bench storm [--clients N] [--tls-clients N]`.
///
/// Fails if a client needs more than one try to connect to Downbeat, or if Downbeat takes longer
/// than the reference server. Needs nginx (Debian package `nginx`) and openssl, and a limit of open
/// files (`ulimit -n`) above the number of clients, or twice that for nginx.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of clients without TLS.
    #[arg(long, default_value_t = 4_000, value_name = "N")]
    clients: usize,
    /// Number of clients with TLS.
    #[arg(long, default_value_t = 900, value_name = "N")]
    tls_clients: usize,
    /// Number of rounds. The best time of each server counts.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
}

/// A storm.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Nginx,
    /// For the reference, nginx adds TLS.
    Tls,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    Downbeat,
    Reference,
}

/// The result of a storm.
#[derive(Clone, Copy)]
struct Outcome {
    failed: u64,
    seconds: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    tools::require_node()?;
    tools::require_c_compiler()?;
    let reference = root().join("xtask/compare/reference");
    let mut steps = Steps::new(3);
    steps.command("server and clients", &mut build(Profile::Release))?;
    steps.step("reference server", "cd xtask/compare/reference && npm ci", || {
        npm::install(&reference)?;
        npm::build_better_sqlite3(&reference)
    })?;
    steps.step("storms", "cargo xtask bench storm", || play_all(arguments, &reference))?;
    steps.finish();
    Ok(())
}

fn play_all(arguments: &Arguments, reference: &Path) -> Result<()> {
    let stage = Stage { downbeat: binary(Profile::Release)?, reference, dir: TempDir::new()? };
    stage.write_certificate()?;
    let mut missed = Vec::new();
    for (way, name) in
        [(Way::Direct, "direct"), (Way::Nginx, "behind nginx"), (Way::Tls, "with TLS")]
    {
        let clients = if way == Way::Tls { arguments.tls_clients } else { arguments.clients };
        let ours = stage.best(Contender::Downbeat, way, clients, arguments.rounds)?;
        let theirs = stage.best(Contender::Reference, way, clients, arguments.rounds)?;
        for (contender, outcome) in [("Downbeat", ours), ("reference", theirs)] {
            let Outcome { failed, seconds } = outcome;
            println!("    {clients} {name}, {contender}: {failed} failed, all in {seconds:.3} s");
        }
        if ours.failed > 0 {
            missed.push(format!("{} clients {name} did not get in", ours.failed));
        }
        if theirs.failed == 0 && ours.seconds > theirs.seconds * TOLERANCE {
            missed.push(format!("{name} takes longer than with the reference"));
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

/// The programs and servers for all storms.
struct Stage<'a> {
    downbeat: std::path::PathBuf,
    reference: &'a Path,
    dir: TempDir,
}

impl Stage<'_> {
    /// The sum of the failures of all rounds, and the best time.
    fn best(
        &self,
        contender: Contender,
        way: Way,
        clients: usize,
        rounds: usize,
    ) -> Result<Outcome> {
        let mut best = Outcome { failed: 0, seconds: f64::INFINITY };
        for _ in 0..rounds.max(1) {
            let Outcome { failed, seconds } = self.play(contender, way, clients)?;
            best.failed += failed;
            best.seconds = best.seconds.min(seconds);
        }
        Ok(best)
    }

    fn play(&self, contender: Contender, way: Way, clients: usize) -> Result<Outcome> {
        let server = self.start(contender, way)?;
        let through_nginx =
            way == Way::Nginx || (way == Way::Tls && contender == Contender::Reference);
        let (_nginx, url) = if through_nginx {
            let (nginx, url) = self.start_nginx(&server.url, way == Way::Tls)?;
            (Some(nginx), url)
        } else {
            (None, server.url.clone())
        };
        let mut bench = Command::new(&self.downbeat);
        bench.args(["bench", "storm", "--json", "--url", &url]);
        bench.args(["--clients", &clients.to_string()]);
        if way == Way::Tls {
            bench.arg("--authorities").arg(self.file("cert.pem"));
        }
        let output = bench.stderr(Stdio::inherit()).output().context("downbeat bench storm")?;
        ensure!(output.status.success(), "downbeat bench storm: {}", output.status);
        let report: Value = serde_json::from_slice(&output.stdout)?;
        if let Some(failure) = report["first_failure"].as_str() {
            println!("    a client failed: {failure}");
        }
        Ok(Outcome {
            failed: report["failed"].as_u64().context("no count of failures")?,
            seconds: report["seconds"].as_f64().context("no time")?,
        })
    }

    fn start(&self, contender: Contender, way: Way) -> Result<Process> {
        let mut command = match contender {
            Contender::Reference => {
                let folder = tempfile::tempdir_in(self.dir.path())?.keep();
                let mut command = Command::new("node");
                command.current_dir(self.reference).arg("server.mjs");
                command.arg(folder.join("storage.db"));
                command
            }
            Contender::Downbeat => {
                let mut command = Command::new(&self.downbeat);
                command.args(["serve", "--port", "0", "--in-memory", "--log", "warn"]);
                // All clients have one address here.
                command.args(["--max-connections-per-address", "20000"]);
                if way == Way::Tls {
                    command.arg("--tls-cert").arg(self.file("cert.pem"));
                    command.arg("--tls-key").arg(self.file("key.pem"));
                }
                if way == Way::Nginx {
                    command.args(["--trusted-proxy", "127.0.0.1"]);
                }
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let output = child.stdout.take().context("no output")?;
        let mut server = Process { child, url: String::new() };
        for line in BufReader::new(output).lines() {
            let line = line?;
            let is_url = |word: &&str| word.starts_with("ws://") || word.starts_with("wss://");
            if let Some(url) = line.split_ascii_whitespace().find(is_url) {
                url.clone_into(&mut server.url);
                return Ok(server);
            }
        }
        bail!("{command:?} ended before it was listening")
    }

    /// nginx before a server.
    fn start_nginx(&self, url: &str, tls: bool) -> Result<(Process, String)> {
        let upstream = url.trim_start_matches("ws://");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let dir = self.dir.path().display();
        let encryption = if tls {
            format!("ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;")
        } else {
            String::new()
        };
        let ssl = if tls { "ssl" } else { "" };
        let text = format!(
            "daemon off; pid {dir}/nginx.pid; error_log stderr crit;
            worker_processes 2; worker_rlimit_nofile 20000;
            events {{ worker_connections 9000; }}
            http {{
              access_log off;
              server {{
                listen {address} {ssl} backlog=4096; {encryption}
                location / {{
                  proxy_pass http://{upstream};
                  proxy_http_version 1.1;
                  proxy_set_header Upgrade $http_upgrade;
                  proxy_set_header Connection upgrade;
                  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
              }}
            }}"
        );
        let config = self.file("nginx.conf");
        fs::write(&config, text)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).args(["-e", "stderr", "-p"]).arg(self.dir.path());
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx (Debian package nginx)")?;
        let nginx = Process { child, url: String::new() };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "nginx does not listen on {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let scheme = if tls { "wss" } else { "ws" };
        Ok((nginx, format!("{scheme}://{address}")))
    }

    fn write_certificate(&self) -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout"]);
        openssl.arg(self.file("key.pem")).arg("-out").arg(self.file("cert.pem"));
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        run_command(openssl.stderr(Stdio::null())).context("cannot make a certificate")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

/// A server, ended when dropped.
struct Process {
    child: Child,
    url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // With SIGTERM, because a killed nginx would leave its workers behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let end = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

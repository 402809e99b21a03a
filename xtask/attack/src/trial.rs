//! One attack on one fresh server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::attacks::{Attack, Stage};
use crate::ground::{Ground, Sizes};
use crate::honest::Honest;
use crate::link::Link;
use crate::report::{Log, Memory, Report, Sent};
use crate::server::{Program, Server};
use crate::socket::Over;
use crate::usage;
use crate::verdict;

/// The seeds of the honest clients during and after the attack.
const SEEDS: [u64; 2] = [1, 2];

/// The keys of a server with keys.
const KEYS: usize = 50;

/// The longest preparation of an attack.
const PREPARATION: Duration = Duration::from_mins(3);

/// The settings of all trials.
pub(crate) struct Plan {
    pub(crate) binary: PathBuf,
    pub(crate) sizes: Sizes,
    /// A factor for limits of time.
    pub(crate) tolerance: f64,
}

impl Plan {
    /// The time of a phase, in seconds.
    fn time(&self, full: f64, short: f64) -> Duration {
        Duration::from_secs_f64(if self.sizes == Sizes::Full { full } else { short })
    }

    /// Runs an attack, and measures it.
    pub(crate) async fn run(&self, attack: &Attack, budget: &Budget) -> Result<Report> {
        let dir = TempDir::new()?;
        let mut trial = Trial::start(self, attack, budget, dir.path()).await?;
        // The attacker stays connected while the server stops.
        let (mut report, ground) = trial.attack().await?;
        trial.stop(&mut report).await?;
        report.failures.extend(verdict::failures(&report, ground.own_bounds, self.tolerance));
        Ok(report)
    }
}

/// A memory budget, as the server and as numbers take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) text: String,
    pub(crate) bytes: u64,
}

/// A running server with its honest client, and the attacker who prepares.
struct Trial<'a> {
    plan: &'a Plan,
    attack: &'a Attack,
    budget: &'a Budget,
    program: Program,
    server: Server,
    honest: Honest,
    /// What a client adds to the address to connect.
    path: String,
    attacker: JoinHandle<(Ground, Result<()>)>,
    begin: Option<oneshot::Sender<()>>,
    over: watch::Sender<bool>,
}

impl<'a> Trial<'a> {
    async fn start(
        plan: &'a Plan,
        attack: &'a Attack,
        budget: &'a Budget,
        dir: &Path,
    ) -> Result<Self> {
        let mut program = Program {
            binary: plan.binary.clone(),
            dir: dir.to_owned(),
            memory_budget: budget.text.clone(),
            options: Vec::new(),
        };
        let (keys, upstream) = program.set_stage(attack.stage).await?;
        let server = program.start().await?;
        let address: SocketAddr = server.address.parse()?;
        let (prepared, is_prepared) = oneshot::channel();
        let (begin, begins) = oneshot::channel();
        let (over, is_over) = watch::channel(false);
        let mut ground = Ground::new(address, plan.sizes, prepared, begins, is_over);
        ground.tcp.clone_from(&server.tcp);
        ground.upstream = upstream;
        let path = keys.last().map_or(String::new(), |key| format!("/?key={key}"));
        ground.keys = keys;
        let run = attack.run;
        let attacker = tokio::spawn(async move {
            let result = run(&mut ground).await;
            (ground, result)
        });
        let is_prepared = tokio::time::timeout(PREPARATION, is_prepared).await;
        if is_prepared.context("the preparation takes too long")?.is_err() {
            attacker.await?.1.context("the preparation failed")?;
            bail!("the attack never begins");
        }
        let honest = Honest::start(&format!("{address}{path}"), SEEDS[0]).await?;
        let begin = Some(begin);
        Ok(Self { plan, attack, budget, program, server, honest, path, attacker, begin, over })
    }

    /// The undisturbed phase, the attack, and the time after it. The connections of the attack stay
    /// open with the returned ground.
    async fn attack(&mut self) -> Result<(Report, Ground)> {
        let pid = self.server.pid()?;
        // The first writes after the upload are not typical.
        sleep(self.plan.time(1.0, 0.5)).await;
        self.honest.end_phase();
        sleep(self.plan.time(4.0, 1.5)).await;
        let undisturbed = self.honest.end_phase();
        usage::reset_peak(pid)?;
        let before = usage::memory(pid)?.resident;
        let disk_before = usage::disk(&self.program.store())?;
        let log_before = self.server.log()?.len();

        let began = Instant::now();
        let _ = self.begin.take().map(|begin| begin.send(()));
        let ended = timeout(self.plan.time(20.0, 5.0), &mut self.attacker).await;
        let _ = self.over.send(true);
        let ended = match ended {
            Ok(ended) => ended,
            Err(_) => (&mut self.attacker).await,
        };
        let (ground, result) = ended.context("the attack panicked")?;
        let attack_time = began.elapsed();
        if let Err(error) = result
            && !error.is::<Over>()
        {
            let log = String::from_utf8_lossy(&self.server.log()?).into_owned();
            let last = log.lines().last().unwrap_or_default();
            return Err(error.context(format!("the attack failed, last line of the log: {last}")));
        }
        sleep(self.plan.time(3.0, 1.0).saturating_sub(attack_time)).await;
        sleep(self.plan.time(5.0, 3.0)).await;
        let memory = usage::memory(pid)?;
        let report = Report {
            attack: self.attack.name,
            memory_budget: self.budget.bytes,
            undisturbed,
            attacked: self.honest.end_phase(),
            attack_seconds: attack_time.as_secs_f64(),
            memory: Memory { before, peak: memory.peak, after: memory.resident },
            disk_grown: usage::disk(&self.program.store())?.saturating_sub(disk_before),
            storable: ground.storable,
            log: Log::of(&String::from_utf8_lossy(&self.server.log()?[log_before..])),
            sent: Sent::of(&ground.counters),
            ..Report::default()
        };
        Ok((report, ground))
    }

    /// Stops the server, starts it again, and looks for the content of the honest client.
    async fn stop(mut self, report: &mut Report) -> Result<()> {
        let (acknowledged, complaints) = self.honest.stop()?;
        report.failures.extend(complaints);
        let stopped = self.server.stop().await?;
        report.stop_seconds = stopped.map(|time| time.as_secs_f64());
        drop(self.server);
        if self.attack.stage == Stage::Upstream {
            self.program.options.clear();
        }
        let server = self.program.start().await?;
        let address = format!("{}{}", server.address, self.path);
        if let Some(state) = acknowledged {
            let loaded = async { Link::connect(&address).await?.load(&state).await };
            if let Err(error) = loaded.await {
                report.failures.push(format!("content of the honest client is lost: {error:#}"));
            }
        }
        let honest = Honest::start(&address, SEEDS[1]).await?;
        sleep(self.plan.time(1.0, 0.5)).await;
        honest.end_phase();
        sleep(self.plan.time(3.0, 1.0)).await;
        report.afterwards = honest.end_phase();
        honest.stop()?;
        Ok(())
    }
}

impl Program {
    /// Adds the options of a stage. Returns the keys of the server, and the listener that it uses
    /// as its upstream.
    async fn set_stage(&mut self, stage: Stage) -> Result<(Vec<String>, Option<TcpListener>)> {
        let mut add = |options: &[&str]| {
            self.options.extend(options.iter().map(|&option| option.to_owned()));
        };
        match stage {
            Stage::Default => {}
            Stage::Tcp => add(&["--tcp-port", "0"]),
            Stage::Keys => {
                let file = self.dir.join("keys.toml");
                add(&["--access", "keys", "--keys", &file.display().to_string()]);
                return Ok((add_keys(&self.binary, &file)?, None));
            }
            Stage::Upstream => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                add(&["--upstream", &format!("ws://{}", listener.local_addr()?)]);
                return Ok((Vec::new(), Some(listener)));
            }
        }
        Ok((Vec::new(), None))
    }
}

/// Creates keys with the binary.
fn add_keys(binary: &Path, file: &Path) -> Result<Vec<String>> {
    (0..KEYS)
        .map(|number| {
            let name = format!("key-{number}");
            let output =
                Command::new(binary).args(["key", "add", &name, "--keys"]).arg(file).output()?;
            ensure!(output.status.success(), "cannot add a key: {}", output.status);
            let text = String::from_utf8(output.stdout)?;
            Ok(text.split_whitespace().last().context("no key")?.to_owned())
        })
        .collect()
}

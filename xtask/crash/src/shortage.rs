//! A full disk. The server must acknowledge nothing, serve all reads, and start. As soon as there
//! is space, it must continue without a restart.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, geteuid, getrlimit, prlimit};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::write_all;
use crate::copies::Copies;
use crate::data_dir::DataDir;
use crate::kills::Run;
use crate::server::{Program, Server};
use crate::truth::Truth;

/// Steps of each author in each part of a test.
const STEPS: usize = 20;

/// Steps that write more than the rest of a segment of sled (2 MiB).
const MANY_STEPS: usize = 150;

/// The time during which nothing may be acknowledged. The server retries several times in it.
const SHORTAGE: Duration = Duration::from_secs(3);

/// Time limit for all acknowledgements after there is space.
const RECOVERY: Duration = Duration::from_secs(20);

/// Time without an acknowledgement after which the server counts as unable to write.
const QUIET: Duration = Duration::from_secs(1);

/// Number of starts on a full disk.
const STARTS_ON_FULL_DISK: usize = 3;

/// Interval between checks of a condition.
const POLL: Duration = Duration::from_millis(20);

/// The size of a small disk: a store and its log, and some space.
const DISK_BYTES: u64 = 64 << 20;

/// The user id of a server that must not be able to write everywhere.
const UNPRIVILEGED: u32 = 65_534;

/// The server logs this once a minute while it cannot write.
pub(crate) const FAILURE: &str = "storage takes no content";

/// The server logs this when it can write again.
pub(crate) const WELL: &str = "storage takes content again";

/// The time without a message after which the server counts as finished.
const SILENCE: Duration = Duration::from_secs(20);

/// How the server runs out of space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// A limit on the length of files, set from outside while the server runs. Works everywhere,
    /// but the error differs from that of a full disk.
    Limit,
    /// A small separate file system that is filled. Needs the right to mount one.
    Disk,
}

/// Fills the disk twice. The server must continue each time that space is freed.
pub(crate) async fn run(run: &Run, means: Means) -> Result<()> {
    let place = DataDir::new(run.kind)?;
    let disk = match means {
        Means::Limit => None,
        Means::Disk => Some(SmallDisk::mount()?),
    };
    let data = disk.as_ref().map_or_else(|| place.data(), |disk| disk.dir.path().join("data"));
    let mut program = place.program_in(&run.binary, &data);
    if means == Means::Limit {
        // Without the signal, exceeding the limit is an error and does not end the process.
        let script = r#"trap '' XFSZ; exec "$0" "$@""#;
        program.wrapper = ["sh", "-c", script].map(str::to_owned).to_vec();
    }
    let shortage = Shortage { disk, truth: Truth::default() };
    let (mut server, url, _) = program.start().await?;
    write_all(run.seed, &shortage.truth, &url, STEPS).await?;
    // After a restart the content is not in memory.
    server.stop().await?;
    let (mut server, url, _) = program.start().await?;
    let started = Instant::now();
    for time in 1..=2 {
        let took = shortage.live_through(&server, &url, run.seed + time).await?;
        println!("{} without space ({means:?}): acknowledged again after {took:.1?}", run.kind);
    }
    tell_once_a_minute(&server, started.elapsed())?;
    shortage.read_all(&url).await?;
    server.kill().await?;
    let (mut server, url, _) = program.start().await.context("after the shortage")?;
    shortage.read_all(&url).await?;
    if means == Means::Disk {
        server = shortage.start_on_full_disk(server, &program, run).await?;
    }
    server.kill().await
}

/// The server refuses a store in a read-only directory, and names it.
pub(crate) async fn refuse_read_only(run: &Run) -> Result<()> {
    let place = DataDir::new(run.kind)?;
    let truth = Truth::default();
    let program = place.program(&run.binary);
    let (mut server, url, _) = program.start().await?;
    write_all(run.seed, &truth, &url, STEPS).await?;
    server.stop().await?;
    // The superuser may write everywhere, so the server needs another user.
    let is_root = geteuid().is_root();
    let binary = if is_root { place.public_copy(&run.binary)? } else { run.binary.clone() };
    let user = is_root.then_some(UNPRIVILEGED);
    let locked = place.data();
    let empty = locked.with_file_name("empty");
    fs::create_dir(&empty)?;
    for data in [&locked, &empty] {
        set_mode_of_all(data, 0o444, 0o555)?;
        let program = Program { user, ..place.program_in(&binary, data) };
        let Err(refusal) = program.spawn()?.listening().await? else {
            bail!("the server starts with {}, which is read-only", data.display());
        };
        let names_it = refusal.message.contains(&data.display().to_string());
        ensure!(names_it && !refusal.status.success(), "the refusal is not clear: {refusal}");
        set_mode_of_all(data, 0o644, 0o755)?;
    }
    let (mut server, url, _) = program.start().await.context("when it can be written again")?;
    let ids = truth.ids();
    Copies::load(&truth, &url, &ids, RECOVERY).await?.check(&ids)?;
    server.kill().await?;
    println!("{} in read-only directories: refused", run.kind);
    Ok(())
}

struct Shortage {
    disk: Option<SmallDisk>,
    truth: Truth,
}

impl Shortage {
    /// Fills the disk while clients write, and frees it. Returns the time from then until
    /// everything was acknowledged.
    async fn live_through(&self, server: &Server, url: &str, seed: u64) -> Result<Duration> {
        self.begin(server)?;
        let before = self.truth.sizes();
        let writing = tokio::spawn({
            let (truth, url) = (self.truth.clone(), url.to_owned());
            let steps = if self.disk.is_some() { MANY_STEPS } else { STEPS };
            async move { write_all(seed, &truth, &url, steps).await }
        });
        // There may be some space left at first.
        let mut last = (self.truth.sizes().acknowledged, Instant::now());
        let quiet = wait_until("nothing is acknowledged", || {
            ensure!(!writing.is_finished(), "there was space for everything");
            let acknowledged = self.truth.sizes().acknowledged;
            if acknowledged != last.0 {
                last = (acknowledged, Instant::now());
            }
            Ok(last.1.elapsed() > QUIET)
        });
        quiet.await.with_context(|| format!("the server's log: {:?}", server.log()))?;
        let acknowledged = self.truth.sizes().acknowledged;
        tokio::time::sleep(SHORTAGE).await;
        self.read_all(url).await.with_context(|| {
            format!("reading while nothing can be written:\n{:?}", server.log())
        })?;
        let during = self.truth.sizes();
        ensure!(during.written > before.written, "no client writes");
        ensure!(
            during.acknowledged == acknowledged,
            "{} transactions are acknowledged but cannot have been stored",
            during.acknowledged - acknowledged
        );
        self.end(server)?;
        let start = Instant::now();
        let written = tokio::time::timeout(RECOVERY, writing).await;
        let log =
            || format!("the server does not continue when there is space:\n{:?}", server.log());
        written.with_context(log)???;
        Ok(start.elapsed())
    }

    /// Kills a server on a full disk, and starts it again several times. It must listen, serve
    /// everything, and continue when there is space.
    async fn start_on_full_disk(
        &self,
        mut server: Server,
        program: &Program,
        run: &Run,
    ) -> Result<Server> {
        self.begin(&server)?;
        let mut url = String::new();
        for _ in 0..STARTS_ON_FULL_DISK {
            server.kill().await?;
            (server, url, _) = program.start().await.context("on a full disk")?;
            self.read_all(&url).await.context("on a full disk, after a start")?;
            // Fills the space that the start has freed.
            self.begin(&server)?;
        }
        self.end(&server)?;
        let writing = write_all(!run.seed, &self.truth, &url, STEPS);
        let log =
            || format!("the server does not continue when there is space:\n{:?}", server.log());
        tokio::time::timeout(RECOVERY, writing).await.with_context(log)??;
        println!("{} started {STARTS_ON_FULL_DISK} times on a full disk", run.kind);
        Ok(server)
    }

    /// Checks that all acknowledged content can be read.
    async fn read_all(&self, url: &str) -> Result<()> {
        let ids = self.truth.ids();
        let copies = Copies::load(&self.truth, url, &ids, SILENCE).await?;
        copies.check(&ids)
    }

    fn begin(&self, server: &Server) -> Result<()> {
        match &self.disk {
            Some(disk) => disk.fill(),
            None => limit_files(server, Some(1)),
        }
    }

    fn end(&self, server: &Server) -> Result<()> {
        match &self.disk {
            Some(disk) => Ok(fs::remove_file(disk.ballast())?),
            None => limit_files(server, getrlimit(Resource::Fsize).maximum),
        }
    }
}

/// Checks that a server has logged the failure and the recovery, each at most once a minute.
pub(crate) fn tell_once_a_minute(server: &Server, time: Duration) -> Result<()> {
    let log = server.log()?;
    let most = 1 + usize::try_from(time.as_secs() / 60)?;
    for line in [FAILURE, WELL] {
        let lines = log.matches(line).count();
        ensure!((1..=most).contains(&lines), "{lines} lines \"{line}\" in {time:.0?}:\n{log}");
    }
    Ok(())
}

pub(crate) async fn wait_until(
    what: &str,
    mut happened: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + RECOVERY;
    while !happened()? {
        ensure!(Instant::now() < end, "timed out before {what}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Limits the length of files for a running server, or removes the limit.
fn limit_files(server: &Server, bytes: Option<u64>) -> Result<()> {
    let pid = i32::try_from(server.pid()?).ok().and_then(Pid::from_raw);
    let pid = pid.context("the process id is invalid")?;
    let limit = Rlimit { current: bytes, maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(Some(pid), Resource::Fsize, limit).context("cannot limit the server's files")?;
    Ok(())
}

fn set_mode_of_all(path: &Path, file: u32, dir: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    if !path.is_dir() {
        return Ok(set(path, file)?);
    }
    for entry in fs::read_dir(path)? {
        set_mode_of_all(&entry?.path(), file, dir)?;
    }
    Ok(set(path, dir)?)
}

/// A file system in memory.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mount() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let size = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "downbeat-crash"]).arg(dir.path());
        ensure!(mount.status()?.success(), "cannot mount a small disk");
        Ok(Self { dir })
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Fills all space.
    fn fill(&self) -> Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(self.ballast())?;
        for len in [1 << 20, 4 << 10, 1] {
            while file.write_all(&vec![0; len]).is_ok() {}
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.dir.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.dir.path().display());
        }
    }
}

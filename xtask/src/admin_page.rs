//! `cargo xtask admin-page`: the status page in a headless Chromium.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::server::{Ended, Folder, Running};
use crate::steps::Steps;
use crate::workspace::{Profile, binary, build, root};

/// The names of Chromium on different systems.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// The time limit of the browser for one look at the page.
const BROWSER_TIME: Duration = Duration::from_mins(2);
/// The virtual time of the page, which stops while the page waits for an answer: enough for two
/// updates.
const VIRTUAL_MILLIS: u32 = 5_000;
/// How long load runs before the first look at the page, so that the plots have lines.
const LOAD_TIME: Duration = Duration::from_secs(75);
/// The size of the window: the width of a small laptop, and the height of the page.
const WINDOW: &str = "1280,1550";

/// Test the status page under load in a headless Chromium (`apt-get install chromium`), and make
/// its pictures for the docs.
///
/// `cargo xtask test` does not include it, because many machines have no browser.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Directory of the pictures.
    #[arg(long, default_value_os_t = root().join("docs/images"))]
    pictures: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let browser = find_browser()?;
    let mut steps = Steps::new(3);
    steps.command("server", &mut build(Profile::Debug))?;
    let rerun = "cargo xtask admin-page";
    let scene = steps.step("load", rerun, || {
        let scene = Scene::set()?;
        scene.play()?;
        Ok(scene)
    })?;
    steps.step("browser", rerun, || {
        let _load = scene.go_on()?;
        check_page(browser, &scene.admin)?;
        fs::create_dir_all(&arguments.pictures)?;
        picture(browser, &scene.admin, &arguments.pictures.join("status-page.png"), false)?;
        picture(browser, &scene.admin, &arguments.pictures.join("status-page-dark.png"), true)
    })?;
    drop(scene);
    steps.finish();
    Ok(())
}

fn find_browser() -> Result<&'static str> {
    let runs = |name: &&str| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    BROWSERS.into_iter().find(runs).context("no Chromium: apt-get install chromium")
}

/// An edge server with keys and two upstreams. One upstream is unreachable.
struct Scene {
    program: PathBuf,
    _upstream: Running,
    edge: Running,
    admin: String,
    keys: [String; 2],
    _folder: Folder,
}

impl Scene {
    fn set() -> Result<Self> {
        let program = binary(Profile::Debug)?;
        let folder = Folder::new("downbeat-page")?;
        let key_file = folder.path.join("keys.toml");
        let key = |name: &str| -> Result<String> {
            let mut command = Command::new(&program);
            command.args(["key", "add", name, "--keys"]).arg(&key_file).stderr(Stdio::null());
            let output = command.output().context("cannot create the key")?;
            ensure!(output.status.success(), "`downbeat key add` failed");
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        };
        let keys = [key("mobile-app")?, key("website")?];
        let upstream =
            Running::start(Command::new(&program).args(["serve", "--in-memory", "--port", "0"]))?;
        let url = upstream.url()?;
        let mut serve = Command::new(&program);
        serve.current_dir(&folder.path).args(["serve", "--port", "0", "--admin-port", "0"]);
        serve.args(["--storage", "data:data", "--access", "keys", "--keys"]).arg(&key_file);
        serve.args(["--upstream", &url, "--upstream", "ws://127.0.0.1:9"]);
        let edge = Running::start(&mut serve)?;
        let admin = edge.admin()?;
        Ok(Self { program, _upstream: upstream, edge, admin, keys, _folder: folder })
    }

    /// Generates load for some time, including that of strangers.
    fn play(&self) -> Result<()> {
        let url = self.edge.url()?;
        let started = Instant::now();
        self.send_nonsense(&url)?;
        for seed in 1_u32.. {
            let (writers, readers) = (2 + seed * 3 % 7, 20 + seed * 37 % 60);
            self.bench(
                &url,
                0,
                seed,
                &["live", "--writers", &writers.to_string(), "--edits", "60"],
            )?;
            self.bench(
                &url,
                1,
                seed,
                &["fan-out", "--subscribers", &readers.to_string(), "--edits", "40"],
            )?;
            if started.elapsed() > LOAD_TIME {
                break;
            }
        }
        Ok(())
    }

    /// Generates load until the returned value is dropped.
    fn go_on(&self) -> Result<Ended> {
        let mut command = Command::new(&self.program);
        command.args(["bench", "live", "--writers", "6", "--edits", "6000", "--seed", "0"]);
        let [key, _] = &self.keys;
        command.args(["--url", &format!("{}/?key={key}", self.edge.url()?)]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // So that the following load is in the first sample of the page.
        thread::sleep(Duration::from_secs(12));
        Ok(Ended(child))
    }

    fn bench(&self, url: &str, key: usize, seed: u32, arguments: &[&str]) -> Result<()> {
        let key = self.keys.get(key).context("no such key")?;
        let mut command = Command::new(&self.program);
        command.arg("bench").args(arguments).args(["--url", &format!("{url}/?key={key}")]);
        command.args(["--seed", &seed.to_string()]).stdout(Stdio::null());
        let status = command.status().context("cannot generate load")?;
        ensure!(status.success(), "`downbeat bench {}` failed", arguments.join(" "));
        Ok(())
    }

    /// Sends invalid frames from a client with a key, and connects without a key.
    fn send_nonsense(&self, url: &str) -> Result<()> {
        let address = url.trim_start_matches("ws://");
        let mut stream = handshake(address, &format!("/?key={}", self.keys[0]))?;
        for text in ["nonsense", r#"{"action":"load"}"#, r#"{"action":"content","id":"co_zx"}"#] {
            let length = u8::try_from(text.len())?;
            // A complete text frame with the mask 0, which does not change the text.
            stream.write_all(&[0x81, 0x80 | length, 0, 0, 0, 0])?;
            stream.write_all(text.as_bytes())?;
        }
        handshake(address, "/?key=wrong")?;
        handshake(address, "/")?;
        // The server must read the frames before the socket closes.
        thread::sleep(Duration::from_secs(1));
        Ok(())
    }
}

fn handshake(address: &str, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    stream.read_exact(&mut [0; 12])?;
    Ok(stream)
}

/// Checks the content of the page after its script has run.
fn check_page(browser: &str, url: &str) -> Result<()> {
    let mut command = headless(browser);
    command.args(["--enable-logging=stderr", "--dump-dom", url]);
    let (page, log) = output_within(&mut command)?;
    if let Some(line) = log.lines().find(|line| line.contains(":CONSOLE")) {
        bail!("the page logs an error: {line}");
    }
    let count = |part: &str| page.matches(part).count();
    for (part, least) in [
        ("ready; the upstream ws://127.0.0.1:9/ is not connected", 1),
        ("class=\"tile\"", 7),
        ("class=\"plot\" role=\"img\" tabindex=\"0\"", 6),
        ("aria-label=\"Clients, now: connected", 1),
        // Two lines in each plot except one.
        ("class=\"line s", 11),
        ("<caption", 5),
        ("mobile-app", 2),
        ("class=\"tag\">undecodable", 3),
        ("class=\"tag good\">connected", 1),
        ("class=\"tag bad\">away", 1),
        ("co_z", 10),
    ] {
        let found = count(part);
        ensure!(found >= least, "{part:?} is {found} times on the page, not {least}");
    }
    let drawn = page.split("class=\"line s").skip(1).filter(|line| {
        line.split("\" d=\"")
            .nth(1)
            .or(line.split("d=\"").nth(1))
            .is_some_and(|path| path.split('"').next().unwrap_or_default().matches('L').count() > 5)
    });
    let drawn = drawn.count();
    ensure!(drawn >= 9, "only {drawn} lines of the plots are drawn");
    ensure!(count("class=\"stale\"") == 0, "the page cannot reach the server");
    Ok(())
}

fn picture(browser: &str, url: &str, path: &Path, dark: bool) -> Result<()> {
    let mut command = headless(browser);
    command.arg(format!("--screenshot={}", path.display()));
    command.args(["--hide-scrollbars", "--force-device-scale-factor=1"]);
    command.arg(format!("--window-size={WINDOW}"));
    if dark {
        command.args(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]);
    }
    output_within(command.arg(url))?;
    ensure!(path.exists(), "the browser made no picture");
    println!("    made {}", path.display());
    Ok(())
}

fn headless(browser: &str) -> Command {
    let mut command = Command::new(browser);
    // Without its sandbox, Chromium also runs as root. It only loads our page.
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu"]);
    command.arg(format!("--virtual-time-budget={VIRTUAL_MILLIS}"));
    command
}

/// Returns the standard output and error of a program, if it ends in time.
fn output_within(command: &mut Command) -> Result<(String, String)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = child.stdout.take().context("no standard output")?;
    let mut err = child.stderr.take().context("no standard error")?;
    let collect = |from: &mut dyn Read| {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let out = thread::spawn(move || collect(&mut out));
    let err = thread::spawn(move || collect(&mut err));
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > BROWSER_TIME {
            child.kill()?;
            bail!("the browser did not end in time");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let joined = |text: thread::JoinHandle<String>| text.join().unwrap_or_default();
    Ok((joined(out), joined(err)))
}

//! Runs the binary.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time limit of waits, long enough for a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The binary, without the settings in the environment of the machine.
pub(crate) fn downbeat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_downbeat"));
    let ours = |name: &OsStr| name.to_string_lossy().starts_with("DOWNBEAT_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    downbeat().args(arguments).output().unwrap()
}

/// The standard output of a run.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The standard error of a run.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running server. Ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    /// The standard output up to the announcement of the URL.
    pub said: String,
    log: Arc<Mutex<String>>,
    /// The thread that reads the log.
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// `downbeat serve` with these arguments, on a free port.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(downbeat().args(["serve", "--port", "0"]).args(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let (mut server, mut from) = Self::spawn_unread(command);
        let to = Arc::clone(&server.log);
        server.reader = Some(std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        }));
        server
    }

    /// The same, but the caller reads standard error.
    pub(crate) fn spawn_unread(command: &mut Command) -> (Self, ChildStderr) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !said.contains("Ctrl-C") {
            let read = lines.read_line(&mut said).unwrap();
            if read == 0 {
                let mut log = String::new();
                let _ = stderr.read_to_string(&mut log);
                panic!("the server has ended: {said}\n{log}");
            }
        }
        (Self { child, said, log: Arc::default(), reader: None }, stderr)
    }

    /// The URL for clients.
    pub(crate) fn url(&self) -> String {
        let line = self.said.lines().find(|line| line.trim().starts_with("ws"));
        line.expect("a URL").trim().to_owned()
    }

    /// Where other servers connect over TCP.
    pub(crate) fn tcp_url(&self) -> String {
        let mut words = self.said.split_whitespace();
        words.find(|word| word.starts_with("tcp")).expect("a TCP port").to_owned()
    }

    /// The public address.
    pub(crate) fn address(&self) -> String {
        self.url().split_once("://").unwrap().1.to_owned()
    }

    /// The address of the admin port.
    pub(crate) fn admin(&self) -> String {
        let (_, rest) = self.said.split_once("http://").expect("an admin port");
        rest.split_once('/').unwrap().0.to_owned()
    }

    #[cfg(unix)]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until the server has ended by itself and the log is complete.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server, and returns the complete log, for tests that a line is missing.
    pub(crate) fn whole_log(mut self) -> String {
        self.signal("TERM");
        self.ended();
        self.log()
    }

    /// The log so far. Lines arrive a little later than the event.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log contains this text.
    pub(crate) fn logged(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log().contains(text));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} has not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The answer to a GET: status, headers, and body.
pub(crate) fn get(address: &str, path: &str) -> (u16, String, String) {
    get_from(address, path, address)
}

/// The same, with another `Host`.
pub(crate) fn get_from(address: &str, path: &str, host: &str) -> (u16, String, String) {
    get_with(address, path, &format!("Host: {host}\r\n"))
}

/// The same with these headers.
pub(crate) fn get_with(address: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

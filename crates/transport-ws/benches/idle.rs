//! The cost of idle clients: runs the real binary in its own process, and in this process ten
//! thousand clients that connect and then only read.
//!
//! `cargo build --release -p downbeat`, `ulimit -n 20000`, and then `cargo bench -p
//! downbeat-transport-ws --bench idle -- [--connections N] [--tls] [--server FILE]`. Linux only: it
//! reads `/proc`.

// The figures are for people; all are far below 52 bits.
#![allow(clippy::cast_precision_loss)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const DEFAULT_CONNECTIONS: usize = 10_000;
/// Concurrent handshakes: few enough that none waits for long.
const AT_ONCE: usize = 50;
/// The pause before the measurement, so that it does not include handshakes.
const SETTLE: Duration = Duration::from_secs(20);
/// The duration of the measurement of processor time.
const WATCH: Duration = Duration::from_secs(15);
/// The unit of processor times in `/proc`: 100 a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

struct Arguments {
    connections: usize,
    tls: bool,
    server: PathBuf,
}

fn main() {
    // `cargo test --benches` runs benchmarks as well; this one needs a binary and descriptors.
    let Some(arguments) = arguments() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&arguments));
}

fn arguments() -> Option<Arguments> {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/downbeat");
    let mut arguments = Arguments { connections: DEFAULT_CONNECTIONS, tls: false, server };
    let mut given = std::env::args().skip(1);
    let mut bench = false;
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--bench" => bench = true,
            "--tls" => arguments.tls = true,
            "--connections" => {
                let count = given.next().and_then(|count| count.parse().ok());
                arguments.connections = count.expect("--connections takes a number");
            }
            "--server" => {
                arguments.server = given.next().expect("--server takes a file").into();
            }
            other => panic!("unknown argument {other}"),
        }
    }
    bench.then_some(arguments)
}

async fn measure(arguments: &Arguments) {
    let certificate = arguments.tls.then(Certificate::new);
    let server = Server::start(arguments, certificate.as_ref());
    let tls = certificate.as_ref().map(Certificate::connector);
    let before = server.memory();

    let begun = Instant::now();
    let received = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    let mut opened = 0;
    while opened < arguments.connections {
        let batch = AT_ONCE.min(arguments.connections - opened);
        let mut opening = JoinSet::new();
        for _ in 0..batch {
            opening.spawn(open(server.port, tls.clone()));
        }
        while let Some(stream) = opening.join_next().await {
            let stream = stream.expect("no panic").unwrap_or_else(|error| {
                panic!("connection {opened}: {error} (enough descriptors? see `ulimit -n`)")
            });
            clients.spawn(listen(stream, Arc::clone(&received)));
            opened += 1;
        }
    }
    println!("{opened} connections opened in {:.1} s", begun.elapsed().as_secs_f64());

    tokio::time::sleep(SETTLE).await;
    let after = server.memory();
    let (ticks, bytes) = (server.ticks(), received.load(Ordering::Relaxed));
    tokio::time::sleep(WATCH).await;
    let busy = (server.ticks() - ticks) / TICKS_PER_SECOND / WATCH.as_secs_f64();
    let rate = (received.load(Ordering::Relaxed) - bytes) as f64 / WATCH.as_secs_f64();
    let each = (after - before) as f64 / opened as f64;
    println!("server's memory: {before} KiB before, {after} KiB after: {each:.2} KiB each");
    println!(
        "server's processor: {:.1} % of a core, {:.0} KiB/s sent",
        busy * 100.0,
        rate / 1024.0
    );
    assert_eq!(clients.len(), opened, "a client's connection has ended");
    assert!(rate > 0.0, "no signs of life have come");
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn open(port: u16, tls: Option<TlsConnector>) -> std::io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let host = ServerName::try_from("localhost").expect("a name");
            Box::new(tls.connect(host, stream).await?)
        }
    };
    stream.write_all(UPGRADE).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

/// Reads and discards.
async fn listen(mut stream: Box<dyn Stream>, received: Arc<AtomicU64>) {
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => received.fetch_add(count as u64, Ordering::Relaxed),
        };
    }
}

/// A certificate for `localhost` that is its own authority.
struct Certificate {
    dir: TempDir,
}

impl Certificate {
    fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let dir = TempDir::new().expect("a folder");
        std::fs::write(dir.path().join("cert.pem"), cert.pem()).expect("a file");
        std::fs::write(dir.path().join("key.pem"), signing_key.serialize_pem()).expect("a file");
        Self { dir }
    }

    fn connector(&self) -> TlsConnector {
        let certificate = CertificateDer::from_pem_file(self.dir.path().join("cert.pem"));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

struct Server {
    child: Child,
    port: u16,
    /// Kept open, so that the server can write to it.
    _output: BufReader<ChildStdout>,
}

impl Server {
    fn start(arguments: &Arguments, certificate: Option<&Certificate>) -> Self {
        // The shell raises the limit on descriptors as far as it may.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"", "sh"]);
        command.arg(&arguments.server);
        command.args(["serve", "--host", "127.0.0.1", "--port", "0", "--in-memory"]);
        command.arg(format!("--max-connections={}", arguments.connections));
        command.arg(format!("--max-connections-per-address={}", arguments.connections));
        if let Some(Certificate { dir }) = certificate {
            command.arg("--tls-cert").arg(dir.path().join("cert.pem"));
            command.arg("--tls-key").arg(dir.path().join("key.pem"));
        }
        // One info line for each connection would measure the log.
        command.env("RUST_LOG", "warn").stdout(Stdio::piped());
        let mut child = command.spawn().expect("a shell");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let port = loop {
            let mut line = String::new();
            let read = output.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "the server {} did not start", arguments.server.display());
            if line.contains("ws://") || line.contains("wss://") {
                let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
                break port.expect("a port");
            }
        };
        Self { child, port, _output: output }
    }

    /// Resident memory in KiB.
    fn memory(&self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("a resident size")
    }

    /// Processor time so far.
    fn ticks(&self) -> f64 {
        let stat = self.read("stat");
        // The name in brackets may hold anything; user and system time are 12 and 13 behind it.
        let fields: Vec<_> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("a running server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A transport over Unix sockets, on the handshake and frames of the TCP transport.
//!
//! `cargo run -p downbeat-transport-tcp --example unix_socket`

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use downbeat_protocol::Message;
use downbeat_transport::{Connection, Connector, Listener, PeerInfo, TransportError};
use downbeat_transport_tcp::{TcpOptions, accept_over, connect_over};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The most pending handshakes. Further clients wait in the system's queue.
const MAX_PENDING: usize = 64;
/// The pause after the system has no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections at a path.
pub(crate) struct UnixSocketListener {
    path: PathBuf,
    socket: UnixListener,
    options: TcpOptions,
    handshakes: JoinSet<Result<Connection, TransportError>>,
}

impl UnixSocketListener {
    /// Listens at a path that does not exist yet. Needs a Tokio runtime.
    pub(crate) fn bind(path: impl Into<PathBuf>, options: TcpOptions) -> std::io::Result<Self> {
        let path = path.into();
        let socket = UnixListener::bind(&path)?;
        Ok(Self { path, socket, options, handshakes: JoinSet::new() })
    }
}

#[async_trait]
impl Listener for UnixSocketListener {
    /// Runs handshakes as tasks, so that a slow client does not block the others, and so that
    /// dropping this call loses no connection.
    async fn accept(&mut self) -> Result<Connection, TransportError> {
        loop {
            let has_room = self.handshakes.len() < MAX_PENDING;
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => {
                    if let Ok(Ok(connection)) = finished {
                        return Ok(connection);
                    }
                }
                accepted = self.socket.accept(), if has_room => match accepted {
                    Ok((stream, _)) => {
                        let options = self.options.clone();
                        let client = PeerInfo::new(format!("a client of {}", self.path.display()));
                        self.handshakes
                            .spawn(async move { accept_over(stream, client, &options).await });
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }

    fn url(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

/// Connects to a [`UnixSocketListener`].
pub(crate) struct UnixSocketConnector {
    path: PathBuf,
    name: String,
    options: TcpOptions,
}

impl UnixSocketConnector {
    /// Connects to this path.
    pub(crate) fn new(path: impl Into<PathBuf>, options: TcpOptions) -> Self {
        let path = path.into();
        let name = format!("unix:{}", path.display());
        Self { path, name, options }
    }
}

#[async_trait]
impl Connector for UnixSocketConnector {
    async fn connect(&self) -> Result<Connection, TransportError> {
        let stream = UnixStream::connect(&self.path).await.map_err(TransportError::Io)?;
        connect_over(stream, PeerInfo::new(&self.name), &self.options).await
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Sends one message over a socket at this path, and returns the received messages.
pub(crate) async fn run(path: &Path) -> Result<Vec<Message>, Box<dyn std::error::Error>> {
    let mut listener = UnixSocketListener::bind(path, TcpOptions::default())?;
    let connector = UnixSocketConnector::new(path, TcpOptions::default());
    let (mut client, mut server) = tokio::try_join!(connector.connect(), listener.accept())?;
    client.sender.send(&[Message::ReconcileAck("batch 1".into())]).await?;
    let frame = server.receiver.receive().await?;
    Ok(frame.map(|frame| frame.messages).unwrap_or_default())
}

#[allow(dead_code, reason = "the tests include this file and call `run`")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("downbeat-{}.sock", std::process::id()));
    let messages = run(&path).await;
    std::fs::remove_file(&path)?;
    println!("received over {}: {:?}", path.display(), messages?);
    Ok(())
}

//! The handshake: both sides send a hello.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use downbeat_transport::net::Io;
use downbeat_transport::net::internal::{
    AdmissionControl, ClientHandshake, Handshake, LingeringClose, Permit, RemoteClient,
};
use downbeat_transport::{
    AdmissionRequest, Connection, PeerInfo, TransportCounters, TransportError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hello::{self, BadHello, ClientHello, Denial, HEAD_BYTES, ServerHello, Status, VERSION};
use crate::options::{ALPN, TcpOptions};
use crate::receiver::TcpReceiver;
use crate::sender::TcpSender;
use crate::shared_stream::SharedStream;

/// The shortest keepalive interval that a peer can ask for.
const MIN_KEEP_ALIVE: Duration = Duration::from_millis(500);

/// The server's side of the handshake.
pub(crate) struct ServerSide {
    pub(crate) options: TcpOptions,
}

impl Handshake for ServerSide {
    const ALPN: &'static [&'static str] = ALPN;

    async fn run<S: Io>(
        &self,
        mut stream: S,
        client: RemoteClient,
        admission: &AdmissionControl,
    ) -> Result<Connection, TransportError> {
        let counters = admission.counters();
        let (hello, permit) = match receive_hello(&mut stream, &client, admission).await {
            Ok(admitted) => admitted,
            Err(ServerError::Io(error)) => {
                counters.handshakes_broken_off.increment();
                return Err(error.into());
            }
            Err(ServerError::Denied(denial, error)) => {
                deny(stream, denial).await;
                return Err(error);
            }
        };
        let welcome = ServerHello::Welcome {
            version: VERSION,
            keep_alive: self.options.keep_alive,
            name: self.options.name.clone(),
        };
        write(&mut stream, &welcome.encode())
            .await
            .inspect_err(|_| counters.handshakes_broken_off.increment())?;
        counters.accepted.increment();
        let info = client
            .peer
            .with_name(named(&hello.name))
            .with_label(permit.label.clone())
            .with_key(hello.key);
        Ok(connection(stream, info, hello.keep_alive, permit, &self.options))
    }
}

/// Why a client's hello is not answered with a welcome.
enum ServerError {
    Io(io::Error),
    /// The refusal to send, and the error for the caller.
    Denied(Denial, TransportError),
}

/// Reads a client's hello and admits the client. Counts errors, except those of the stream.
async fn receive_hello<S: Io>(
    stream: &mut S,
    client: &RemoteClient,
    admission: &AdmissionControl,
) -> Result<(ClientHello, Permit), ServerError> {
    let (versions, body) = match read(stream).await {
        Ok(read) => read,
        Err(ReadError::Io(error)) => return Err(ServerError::Io(error)),
        Err(ReadError::Bad(bad)) => return Err(malformed(bad, admission.counters())),
    };
    // The versions decide how the body is read.
    let (lowest, highest) = versions.into();
    if !(lowest..=highest).contains(&VERSION) {
        admission.counters().handshakes_malformed.increment();
        let reason = format!(
            "this server speaks version {VERSION} of this transport, the client {lowest} to \
             {highest}"
        );
        let error = TransportError::Protocol(reason.clone());
        let (status, reason) = (Status::Version, reason.into());
        return Err(ServerError::Denied(Denial { status, retry_after: None, reason }, error));
    }
    let hello =
        ClientHello::decode(versions, &body).map_err(|bad| malformed(bad, admission.counters()))?;
    let request = AdmissionRequest::new(client.remote())
        .with_key(hello.key.as_ref())
        .with_encrypted(client.encrypted);
    match admission.admit(&request, client.descriptors) {
        Ok(permit) => Ok((hello, permit)),
        Err(refusal) => {
            let error = TransportError::NotAdmitted(refusal.clone());
            Err(ServerError::Denied(refusal.into(), error))
        }
    }
}

fn malformed(bad: BadHello, counters: &TransportCounters) -> ServerError {
    match bad {
        BadHello::TooLarge(_) => counters.handshakes_too_large.increment(),
        _ => counters.handshakes_malformed.increment(),
    }
    let reason = format!("{bad}; this port is for links between Downbeat nodes").into();
    let denial = Denial { status: Status::Malformed, retry_after: None, reason };
    ServerError::Denied(denial, TransportError::Protocol(bad.to_string()))
}

/// The client's side of the handshake.
pub(crate) struct ClientSide {
    /// The server's name, and the key for it.
    pub(crate) server: PeerInfo,
    pub(crate) options: TcpOptions,
}

impl ClientHandshake for ClientSide {
    async fn run<S: Io>(&self, stream: S) -> Result<Connection, TransportError> {
        self.greet(stream).await
    }
}

impl ClientSide {
    /// Sends the hello on a new stream, and reads the answer.
    pub(crate) async fn greet<S: Io>(&self, mut stream: S) -> Result<Connection, TransportError> {
        let Self { server, options } = self;
        let hello = ClientHello {
            versions: (VERSION, VERSION),
            keep_alive: options.keep_alive,
            name: options.name.clone(),
            key: server.key.clone(),
        };
        write(&mut stream, &hello.encode()).await?;
        let bad_hello = |bad: BadHello| TransportError::Protocol(bad.to_string());
        let (head, body) = read(&mut stream).await.map_err(|error| match error {
            ReadError::Io(error) => error.into(),
            ReadError::Bad(bad) => bad_hello(bad),
        })?;
        match ServerHello::decode(head, &body).map_err(bad_hello)? {
            ServerHello::Welcome { version: VERSION, keep_alive, name } => {
                let info = PeerInfo::new(&server.address).with_name(named(&name));
                Ok(connection(stream, info, keep_alive, Permit::default(), options))
            }
            ServerHello::Welcome { version, .. } => Err(TransportError::Protocol(format!(
                "the server chose version {version}, which was not offered"
            ))),
            ServerHello::Refused(denial) => {
                Err(TransportError::Refused { reason: denial.to_string() })
            }
        }
    }
}

fn connection<S: Io>(
    stream: S,
    info: PeerInfo,
    keep_alive: Duration,
    permit: Permit,
    options: &TcpOptions,
) -> Connection {
    let stream = Arc::new(SharedStream::new(stream, permit, Arc::clone(&options.counters)));
    let keep_alive = (!keep_alive.is_zero()).then(|| keep_alive.max(MIN_KEEP_ALIVE));
    Connection {
        info,
        sender: Box::new(TcpSender::new(Arc::clone(&stream), keep_alive)),
        receiver: Box::new(TcpReceiver::new(stream, options)),
    }
}

fn named(name: &str) -> Option<Arc<str>> {
    (!name.is_empty()).then(|| name.into())
}

/// Sends a refusal. The client may have disconnected already.
async fn deny<S: Io>(mut stream: S, denial: Denial) {
    let answer = ServerHello::Refused(denial).encode();
    if write(&mut stream, &answer).await.is_ok() {
        let _ = stream.shutdown().await;
        let mut linger = LingeringClose::default();
        poll_fn(|cx| linger.poll(cx, |cx, buf| Pin::new(&mut stream).poll_read(cx, buf))).await;
    }
}

enum ReadError {
    Io(io::Error),
    Bad(BadHello),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a hello: the two bytes of the head that differ, and the body. Reads no byte beyond it.
async fn read<S: Io>(stream: &mut S) -> Result<([u8; 2], Vec<u8>), ReadError> {
    let mut head = [0; HEAD_BYTES];
    let mut filled = 0;
    while filled < HEAD_BYTES {
        let rest = head.get_mut(filled..).unwrap_or_default();
        let count = stream.read(rest).await?;
        if count == 0 {
            return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        filled += count;
        // A client of another protocol may wait for an answer before it has sent a whole head.
        let beginning = head.iter().take(filled);
        if beginning.zip(hello::MAGIC).any(|(byte, magic)| *byte != magic) {
            return Err(ReadError::Bad(BadHello::Magic));
        }
    }
    let (pair, length) = hello::parse_head(&head).map_err(ReadError::Bad)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((pair, body))
}

async fn write<S: Io>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

//! The hellos, on both sides, and what comes of them.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use downbeat_transport::net::{Door, Io, Linger, Notices, Pass, Room};
use downbeat_transport::tls::TlsError;
use downbeat_transport::{
    AdmissionRequest, ApiKey, Connection, PeerInfo, Refusal, TransportCounters, TransportError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::hello::{self, Answer, BadHello, Denial, HEAD_BYTES, Hello, Status, VERSION};
use crate::link::Link;
use crate::options::{ALPN, TcpOptions};
use crate::receiver::TcpReceiver;
use crate::sender::TcpSender;

/// No peer gets signs of life more often than this, whatever it asks for.
const MIN_KEEP_ALIVE: Duration = Duration::from_millis(500);

/// What a client is told when there are no descriptors left.
const NO_ROOM: &str = "this server has no room for more connections";
/// When it may try again.
const NO_ROOM_RETRY: Duration = Duration::from_secs(10);

/// Everything a listener needs for its handshakes.
pub(crate) struct Reception {
    options: TcpOptions,
    door: Door,
    tls: Option<TlsAcceptor>,
}

impl Reception {
    pub(crate) fn new(options: TcpOptions, notices: Arc<Notices>) -> Result<Self, TlsError> {
        let tls = options.tls.as_ref().map(|tls| tls.acceptor(ALPN)).transpose()?;
        let counters = Arc::clone(&options.counters);
        let door =
            Door::new(options.connection_limits, options.admission.clone(), counters, notices);
        Ok(Self { options, door, tls })
    }

    pub(crate) fn encrypts(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) async fn receive(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        room: Room,
    ) -> Option<Connection> {
        let Some(tls) = &self.tls else { return self.serve(stream, peer, room).await };
        match tls.accept(stream).await {
            Ok(stream) => self.serve(stream, peer, room).await,
            Err(error) => {
                self.counters().tls_failed.increment();
                tracing::debug!(%peer, %error, "no TLS");
                None
            }
        }
    }

    async fn serve<S: Io>(
        &self,
        mut stream: S,
        peer: SocketAddr,
        room: Room,
    ) -> Option<Connection> {
        let (pair, body) = match read(&mut stream).await {
            Ok(read) => read,
            Err(ReadError::Io(error)) => {
                self.counters().handshakes_broken_off.increment();
                tracing::debug!(%peer, %error, "no hello");
                return None;
            }
            Err(ReadError::Bad(bad)) => {
                match bad {
                    BadHello::TooLarge(_) => self.counters().handshakes_too_large.increment(),
                    _ => self.counters().handshakes_malformed.increment(),
                }
                return deny(stream, peer, malformed(bad)).await;
            }
        };
        let judged = self.judge(pair, &body, peer.ip(), room);
        let (hello, version, pass) = match judged {
            Ok(judged) => judged,
            Err(denial) => return deny(stream, peer, denial).await,
        };
        let welcome = Answer::Welcome {
            version,
            keep_alive: self.options.keep_alive,
            name: self.options.name.clone(),
        };
        if let Err(error) = write(&mut stream, &welcome.encode()).await {
            self.counters().handshakes_broken_off.increment();
            tracing::debug!(%peer, %error, "the hello could not be answered");
            return None;
        }
        self.counters().accepted.increment();
        let info = PeerInfo::new(peer.to_string())
            .with_remote(peer.ip().to_canonical())
            .with_name(named(&hello.name))
            .with_label(pass.label.clone())
            .with_key(hello.key);
        Some(connection(stream, info, hello.keep_alive, pass, &self.options))
    }

    /// What is made of a hello.
    fn judge(
        &self,
        pair: [u8; 2],
        body: &[u8],
        peer: IpAddr,
        room: Room,
    ) -> Result<(Hello, u8, Pass), Denial> {
        // Versions come before everything that they may change.
        let (lowest, highest) = pair.into();
        if !(lowest..=highest).contains(&VERSION) {
            self.counters().handshakes_malformed.increment();
            let reason = format!(
                "this server speaks version {VERSION} of this transport, the client {lowest} to \
                 {highest}"
            );
            let (status, reason) = (Status::Version, reason.into());
            return Err(Denial { status, retry_after: None, reason });
        }
        let hello = Hello::decode(pair, body).map_err(|bad| {
            self.counters().handshakes_malformed.increment();
            malformed(bad)
        })?;
        if room == Room::None {
            return Err(Refusal::unavailable(NO_ROOM, NO_ROOM_RETRY).into());
        }
        let request = AdmissionRequest::new(peer.to_canonical())
            .with_key(hello.key.as_ref())
            .with_encrypted(self.encrypts());
        let pass = self.door.enter(&request)?;
        Ok((hello, VERSION, pass))
    }

    fn counters(&self) -> &TransportCounters {
        self.door.counters()
    }
}

/// The client's side of the handshake on a new stream to the server of this name.
pub(crate) async fn greet<S: Io>(
    mut stream: S,
    server: &str,
    key: Option<ApiKey>,
    options: &TcpOptions,
) -> Result<Connection, TransportError> {
    let hello = Hello {
        versions: (VERSION, VERSION),
        keep_alive: options.keep_alive,
        name: options.name.clone(),
        key,
    };
    write(&mut stream, &hello.encode()).await?;
    let (pair, body) = read(&mut stream).await.map_err(|error| match error {
        ReadError::Io(error) => error.into(),
        ReadError::Bad(bad) => TransportError::Protocol(bad.to_string()),
    })?;
    let answer =
        Answer::decode(pair, &body).map_err(|bad| TransportError::Protocol(bad.to_string()))?;
    match answer {
        Answer::Welcome { version: VERSION, keep_alive, name } => {
            let info = PeerInfo::new(server).with_name(named(&name));
            Ok(connection(stream, info, keep_alive, Pass::default(), options))
        }
        Answer::Welcome { version, .. } => Err(TransportError::Protocol(format!(
            "the server chose version {version}, which was not offered"
        ))),
        Answer::Refused(denial) => {
            let reason = denial.to_string();
            Err(TransportError::Refused { reason })
        }
    }
}

fn connection<S: Io>(
    stream: S,
    info: PeerInfo,
    keep_alive: Duration,
    pass: Pass,
    options: &TcpOptions,
) -> Connection {
    let link = Arc::new(Link::new(stream, pass, Arc::clone(&options.counters)));
    let keep_alive = (!keep_alive.is_zero()).then(|| keep_alive.max(MIN_KEEP_ALIVE));
    Connection {
        info,
        sender: Box::new(TcpSender::new(Arc::clone(&link), keep_alive)),
        receiver: Box::new(TcpReceiver::new(link, options)),
    }
}

fn named(name: &str) -> Option<Arc<str>> {
    (!name.is_empty()).then(|| name.into())
}

fn malformed(bad: BadHello) -> Denial {
    let reason = format!("{bad}; this port is for links between Downbeat nodes").into();
    Denial { status: Status::Malformed, retry_after: None, reason }
}

/// Tells the client why not. Nothing depends on whether it learns it.
async fn deny<S: Io>(mut stream: S, peer: SocketAddr, denial: Denial) -> Option<Connection> {
    tracing::debug!(%peer, "refused: {denial}");
    let answer = Answer::Refused(denial).encode();
    if write(&mut stream, &answer).await.is_ok() {
        let _ = stream.shutdown().await;
        let mut linger = Linger::new();
        poll_fn(|cx| linger.poll(cx, |cx, buf| Pin::new(&mut stream).poll_read(cx, buf))).await;
    }
    None
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

/// A hello's or an answer's two bytes, and what follows the head. Never reads beyond it.
async fn read<S: Io>(stream: &mut S) -> Result<([u8; 2], Vec<u8>), ReadError> {
    let mut head = [0; HEAD_BYTES];
    let mut begun = 0;
    while begun < HEAD_BYTES {
        let rest = head.get_mut(begun..).unwrap_or_default();
        let count = stream.read(rest).await?;
        if count == 0 {
            return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        begun += count;
        // Whoever speaks something else may wait for an answer before it has sent so much.
        let beginning = head.iter().take(begun);
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

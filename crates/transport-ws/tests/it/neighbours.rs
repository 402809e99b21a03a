//! Bad peers of every kind at once, and a good one beside them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::Message;
use downbeat_transport::{Connection, Connector, Listener};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::raw::{BINARY, PATIENCE, PING, TEXT, UPGRADE, frame, header};

/// How many of each kind.
const OF_EACH: usize = 20;
/// Far below what any of the bad peers' time limits is, and far above a busy machine's pauses.
const PROMPT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Says nothing at all.
    Silent,
    /// Sends its request byte by byte.
    SlowLoris,
    /// Sends a head that is too large.
    HugeHead,
    /// Sends a frame byte by byte.
    Dribbling,
    /// Announces a large frame and sends nothing of it.
    Promising,
    /// Ends within a frame.
    CutOff,
    /// Shuts down its direction and stays.
    HalfOpen,
    /// Sends what is no text.
    NotUtf8,
    /// Sends binary frames.
    Binary,
    /// Sends pings and reads no answer.
    Pinging,
    /// Sends a frame that is marked as compressed.
    Bomb,
}

const KINDS: [Kind; 11] = [
    Kind::Silent,
    Kind::SlowLoris,
    Kind::HugeHead,
    Kind::Dribbling,
    Kind::Promising,
    Kind::CutOff,
    Kind::HalfOpen,
    Kind::NotUtf8,
    Kind::Binary,
    Kind::Pinging,
    Kind::Bomb,
];

/// Does what its kind does until the server ends it, which need not happen.
async fn misbehave(kind: Kind, address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match kind {
        Kind::Silent => {}
        Kind::SlowLoris => dribble(&mut stream, UPGRADE.trim_end().as_bytes()).await?,
        Kind::HugeHead => {
            let head = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(100_000));
            stream.write_all(head.as_bytes()).await?;
        }
        _ => {
            stream.write_all(UPGRADE.as_bytes()).await?;
            let frames = match kind {
                Kind::Dribbling => {
                    dribble(&mut stream, &frame(true, TEXT, &[b' '; 10_000])).await?;
                    Vec::new()
                }
                Kind::Promising => header(true, TEXT, 1 << 20),
                Kind::CutOff => {
                    stream.write_all(&header(true, TEXT, 1_000)).await?;
                    return Ok(());
                }
                Kind::NotUtf8 => frame(true, TEXT, &[0xFF; 100]),
                Kind::Binary => frame(true, BINARY, &[0; 100]).repeat(100),
                Kind::Pinging => frame(true, PING, &[b'p'; 125]).repeat(1_000),
                Kind::Bomb => {
                    let mut bomb = frame(true, TEXT, &[0; 100]);
                    bomb[0] |= 0x40;
                    bomb
                }
                _ => Vec::new(),
            };
            stream.write_all(&frames).await?;
        }
    }
    if matches!(kind, Kind::HalfOpen) {
        stream.shutdown().await?;
    }
    std::future::pending().await
}

async fn dribble(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Sends back what comes, as a node would be busy with it.
async fn echo(connection: Connection) {
    let Connection { mut sender, mut receiver, .. } = connection;
    while let Ok(Some(incoming)) = receiver.receive().await {
        if sender.send(&incoming.messages).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_peers_of_every_kind_slow_down_nobody_else() {
    let options = WsOptions::default();
    let counters = Arc::clone(&options.counters);
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let (address, url) = (listener.local_address(), listener.url());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            connections.spawn(echo(listener.accept().await.unwrap()));
        }
    });
    for kind in KINDS.into_iter().cycle().take(OF_EACH * KINDS.len()) {
        tasks.spawn(async move {
            let _ = misbehave(kind, address).await;
        });
    }
    let message = [Message::ReconcileAck("still here".into())];
    for _ in 0..20 {
        let begun = Instant::now();
        let connector = WsConnector::new(&url, WsOptions::default()).unwrap();
        let mut good = connector.connect().await.unwrap();
        for _ in 0..20 {
            good.sender.send(&message).await.unwrap();
            let incoming = good.receiver.receive().await.unwrap().unwrap();
            assert_eq!(incoming.messages, message);
        }
        assert!(begun.elapsed() < PROMPT, "took {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = OF_EACH as u64;
    let begun = Instant::now();
    while counters.snapshot().frames_binary < 100 * all && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = counters.snapshot();
    assert_eq!(seen.handshakes_too_large, all);
    assert_eq!(seen.frames_not_utf8, all);
    assert_eq!(seen.frames_malformed, all);
    assert_eq!(seen.frames_cut_off, all);
    assert_eq!(seen.frames_binary, 100 * all);
    assert!(seen.pings >= all, "{seen:?}");
    assert_eq!(seen.peers_lost, 0);
}

//! Connections and frames.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::attacks::memory::LARGE_FRAME;
use crate::attacks::reconcile;
use crate::author::{Author, Log, sized};
use crate::ground::Ground;
use crate::socket::{COMPRESSED, Frames, PING, Reading, TEXT, frame_head};
use crate::wire;

/// The size of one HTTP flood: connections at the same time.
const HTTP_CONNECTIONS: usize = 64;

/// Connections that subscribe to many CoValues and end.
pub(crate) async fn churn(ground: &mut Ground) -> Result<()> {
    let subscriptions = ground.pick(10_000, 3_000);
    let rounds = ground.pick(40, 12);
    let rounds: Vec<Frames> = (0..rounds)
        .map(|_| ground.random_ids(subscriptions))
        .map(|ids| ids.iter().map(|id| wire::load(*id, "")).collect())
        .collect();
    ground.begin().await?;
    for frames in rounds {
        let socket = ground.connect().await?;
        let _ = socket.send_frames(&frames).await;
        socket.close().await;
    }
    Ok(())
}

/// Connections that end as soon as they are made.
pub(crate) async fn short_connections(ground: &mut Ground) -> Result<()> {
    ground.begin().await?;
    for _ in 0..ground.pick(5_000, 1_000) {
        // The server may refuse the address for a while.
        if let Ok(socket) = ground.connect().await {
            socket.close().await;
        }
        if ground.is_over() {
            break;
        }
    }
    Ok(())
}

/// Clients with many keys, each below the limits of its own.
pub(crate) async fn many_keys(ground: &mut Ground) -> Result<()> {
    let frames: Vec<Frames> =
        ground.keys.clone().iter().map(|_| reconcile::reconciles(ground, 1)).collect();
    ground.begin().await?;
    for (key, frames) in ground.keys.clone().iter().zip(frames) {
        let path = format!("/?key={key}");
        let socket = ground.connect_to(&path).await?;
        socket.send_frames(&frames).await?;
    }
    Ok(())
}

/// Clients at many addresses, each below the limits of its own.
pub(crate) async fn many_addresses(ground: &mut Ground) -> Result<()> {
    let frames: Vec<Frames> =
        (0..ground.pick(100, 30)).map(|_| reconcile::reconciles(ground, 1)).collect();
    ground.begin().await?;
    for (frames, number) in frames.iter().zip(2..) {
        let from = Ipv4Addr::new(127, 0, 1, number);
        for _ in 0..ground.pick(9, 2) {
            ground.connect_as(from, "/", Reading::All).await?;
        }
        ground.connect_as(from, "/", Reading::All).await?.send_frames(frames).await?;
    }
    Ok(())
}

/// Large frames that stop before their end.
pub(crate) async fn half_frames(ground: &mut Ground) -> Result<()> {
    let part = vec![b' '; LARGE_FRAME / 10 * 9];
    ground.begin().await?;
    for _ in 0..ground.pick(80, 32) {
        let Ok(socket) = ground.connect().await else { break };
        let head = frame_head(TEXT, LARGE_FRAME);
        if socket.send_raw(&head).await.is_ok() {
            let _ = socket.send_raw(&part).await;
        }
    }
    Ok(())
}

/// Frames that arrive byte by byte.
pub(crate) async fn slow_frames(ground: &mut Ground) -> Result<()> {
    let text = format!("{}{}", " ".repeat(1 << 16), wire::load(ground.random_ids(1)[0], ""));
    ground.begin().await?;
    let mut sockets = Vec::new();
    for _ in 0..ground.pick(900, 200) {
        let socket = ground.connect().await?;
        socket.send_raw(&frame_head(TEXT, text.len())).await?;
        sockets.push(socket);
    }
    for byte in text.as_bytes() {
        for socket in &sockets {
            let _ = socket.send_raw(&[*byte]).await;
        }
        ground.pause(Duration::from_millis(50)).await?;
    }
    Ok(())
}

/// WebSocket pings, which a server must answer, from a client that does not read.
pub(crate) async fn pings(ground: &mut Ground) -> Result<()> {
    let mut frames = Frames::default();
    for _ in 0..10_000 {
        frames.push_kind(PING, &[b'p'; 125]);
    }
    let count = ground.pick(200, 40);
    ground.begin().await?;
    let readers = [Reading::Nothing, Reading::All];
    for reading in readers {
        let socket = ground.connect_reading(reading).await?;
        for _ in 0..count {
            let sending = socket.send_frames(&frames);
            if tokio::time::timeout(Duration::from_secs(2), sending).await.is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Messages in many empty and tiny fragments.
pub(crate) async fn fragments(ground: &mut Ground) -> Result<()> {
    /// A text frame that continues, and a continuation that does.
    const KINDS: [u8; 2] = [0x01, 0x00];
    let mut frames = Frames::default();
    frames.push_kind(KINDS[0], b"{");
    for number in 0..1_000_000 {
        frames.push_kind(KINDS[1], if number % 2 == 0 { b"" } else { b" " });
    }
    ground.begin().await?;
    ground.flood([frames]).await
}

/// Frames marked as compressed. They are a bomb if the server offers compression.
pub(crate) async fn compressed_frames(ground: &mut Ground) -> Result<()> {
    // A stored block of deflate, then a block of zeros.
    let payload = vec![0x62; 1 << 16];
    let count = ground.pick(200, 50);
    ground.begin().await?;
    for _ in 0..count {
        let mut frames = Frames::default();
        frames.push_kind(COMPRESSED, &payload);
        ground.flood([frames]).await?;
    }
    Ok(())
}

/// Plain HTTP requests.
pub(crate) async fn http(ground: &mut Ground) -> Result<()> {
    let requests = ground.pick(400, 60);
    ground.begin().await?;
    let (address, counters) = (ground.address, ground.counters.clone());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..HTTP_CONNECTIONS {
        let counters = counters.clone();
        tasks.spawn(async move {
            let path = ["/health", "/ready", "/metrics", "/../../etc/passwd"][number % 4];
            let cookie = "c".repeat(8_000);
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n");
            for _ in 0..requests {
                let Ok(mut stream) = TcpStream::connect(address).await else { continue };
                counters.connections.fetch_add(1, Ordering::Relaxed);
                if stream.write_all(request.as_bytes()).await.is_ok() {
                    counters.messages.fetch_add(1, Ordering::Relaxed);
                    counters.sent.fetch_add(request.len() as u64, Ordering::Relaxed);
                    let _ = stream.read(&mut [0; 4096]).await;
                }
            }
        });
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = all => Ok(()),
        over = ground.pause(Duration::from_mins(10)) => Ok(over?),
    }
}

/// Frames that are no messages.
pub(crate) async fn garbage(ground: &mut Ground) -> Result<()> {
    let mut log = Log::new(Author::new(1).open_map("cut"), Author::new(1).agent_session(0));
    let content = wire::content(log.write(&Author::new(1), vec![sized(1_000)]));
    let mut texts = vec![
        "null".to_owned(),
        "{}".to_owned(),
        "[".repeat(5_000),
        content[..content.len() / 2].to_owned(),
        r#"{"action":"load"}"#.to_owned(),
        r#"{"action":"\u001b[31m","id":"co_z1"}"#.to_owned(),
        format!(
            r#"{{"action":"load","id":"co_z1","header":{}1{}}}"#,
            "[".repeat(9_000),
            "]".repeat(9_000)
        ),
    ];
    texts.push(content.replace("co_z", "co_zO0Il"));
    let frames: Vec<Frames> =
        (0..ground.pick(200, 50)).map(|_| texts.iter().cycle().take(400).collect()).collect();
    ground.begin().await?;
    ground.flood(frames).await
}

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

/// Bombs: frames marked as compressed. Each becomes 64 MiB if the server unpacks it.
pub(crate) async fn compressed_frames(ground: &mut Ground) -> Result<()> {
    let bomb = bomb();
    let count = ground.pick(200, 50);
    ground.begin().await?;
    for _ in 0..count {
        let mut frames = Frames::default();
        frames.push_kind(COMPRESSED, &bomb);
        ground.flood([frames]).await?;
    }
    Ok(())
}

/// A deflate block (RFC 1951) of 64 KiB that unpacks to 67,616,641 zeros. Its code for a repetition
/// of 258 bytes is the bit 0, and so is that for the distance 1: each zero byte stands for 1,032.
fn bomb() -> Vec<u8> {
    /// The head of the block, with its codes, a literal zero and the first repetitions.
    const HEAD: [u8; 15] =
        [0xEC, 0xC1, 0x01, 0x01, 0x00, 0x00, 0x00, 0x82, 0x20, 0xFF, 0xAF, 0x6E, 0x48, 0x40, 0x01];
    /// The end of the block, and the beginning of an empty one, whose rest a sender of WebSocket
    /// messages leaves out (RFC 7692, 7.2.1).
    const END: [u8; 2] = [0xF7, 0x06];
    let mut bomb = HEAD.to_vec();
    bomb.resize((1 << 16) - END.len(), 0);
    bomb.extend(END);
    bomb
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The symbols of a Huffman code with their lengths, in the order of their codes.
    struct Code(Vec<(usize, usize)>);

    /// The bits of a deflate block.
    struct Bits<I>(I);

    impl Code {
        fn new(lengths: &[usize]) -> Self {
            let mut symbols: Vec<_> = lengths.iter().copied().zip(0..).collect();
            symbols.retain(|(length, _)| *length > 0);
            symbols.sort_unstable();
            Self(symbols)
        }
    }

    impl<I: Iterator<Item = usize>> Bits<I> {
        fn number(&mut self, bits: usize) -> usize {
            (0..bits).map(|place| self.0.next().unwrap() << place).sum()
        }

        fn symbol(&mut self, Code(symbols): &Code) -> usize {
            let (mut read, mut length, mut code) = (0, 0, 0);
            for (symbol_length, symbol) in symbols {
                while length < *symbol_length {
                    (read, length) = (read << 1 | self.number(1), length + 1);
                    code <<= 1;
                }
                if read == code {
                    return *symbol;
                }
                code += 1;
            }
            panic!("no symbol has this code");
        }
    }

    /// The zeros that a block of zeros unpacks to (RFC 1951, 3.2.7).
    fn unpacked(block: &[u8]) -> usize {
        let bits =
            block.iter().flat_map(|byte| (0..8).map(move |bit| usize::from(byte >> bit & 1)));
        let mut bits = Bits(bits);
        assert_eq!(bits.number(3), 0b100, "the block has codes of its own");
        let (literals, distances, given) =
            (257 + bits.number(5), 1 + bits.number(5), 4 + bits.number(4));
        let mut of_lengths = [0; 19];
        let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        for place in order.into_iter().take(given) {
            of_lengths[place] = bits.number(3);
        }
        let of_lengths = Code::new(&of_lengths);
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (length, count) = match bits.symbol(&of_lengths) {
                16 => (*lengths.last().unwrap(), 3 + bits.number(2)),
                17 => (0, 3 + bits.number(3)),
                18 => (0, 11 + bits.number(7)),
                length => (length, 1),
            };
            lengths.extend(std::iter::repeat_n(length, count));
        }
        let (literals, distances) = lengths.split_at(literals);
        let (literals, distances) = (Code::new(literals), Code::new(distances));
        let mut unpacked = 0;
        loop {
            match bits.symbol(&literals) {
                0 => unpacked += 1,
                256 => return unpacked,
                symbol => {
                    unpacked += match symbol {
                        284 => 227 + bits.number(5),
                        285 => 258,
                        other => panic!("{other} is no repetition of this block"),
                    };
                    assert_eq!(bits.symbol(&distances), 0, "the distance is 1");
                }
            }
        }
    }

    #[test]
    fn a_bomb_unpacks_to_a_thousand_times_its_length() {
        let bomb = bomb();
        assert_eq!((bomb.len(), unpacked(&bomb)), (1 << 16, 67_616_641));
    }
}

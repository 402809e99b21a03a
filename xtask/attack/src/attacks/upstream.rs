//! Lies of an upstream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use downbeat_protocol::{Content, KnownState, Message};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::author::{Author, Log, sized};
use crate::ground::Ground;
use crate::link::Link;
use crate::socket::Counters;
use crate::wire;

/// The interval of pings, without which a server gives its upstream up.
const PING_INTERVAL: Duration = Duration::from_secs(1);

const PING: &str = r#"{"type":"ping","time":1,"dc":"liar"}"#;

/// The CoValues that clients ask the edge for, in each second.
const ASKED: usize = 200;

/// It answers nothing, while clients load what only it can have.
pub(crate) async fn silent(ground: &mut Ground) -> Result<()> {
    serve(ground, |_| Vec::new(), Vec::new()).await
}

/// It sends frames that are no messages.
pub(crate) async fn garbage(ground: &mut Ground) -> Result<()> {
    let texts = ["{}", "null", "[[[[", "{\"action\":\"\\n2026-11-30TFORGED\"}", "\u{1b}[2J"];
    let own = texts.iter().cycle().take(ground.pick(20_000, 4_000));
    let own = own.map(|&text| text.to_owned()).collect();
    serve(ground, |_| vec!["{".to_owned()], own).await
}

/// It promises content of 20,000 sessions that never comes.
pub(crate) async fn endless_promises(ground: &mut Ground) -> Result<()> {
    let author = Author::new(1_000);
    let count = ground.pick(20_000, 5_000);
    let promised = format!("{{{}}}", wire::invented_sessions(&mut ground.rng, count));
    let own = (0..ground.pick(150, 50)).map(|number| {
        let header = author.open_map(&format!("promised {number}"));
        let mut log = Log::new(header, author.agent_session(0));
        let text = wire::content(log.write(&author, vec![sized(100)]));
        wire::with_member(&text, "expectContentUntil", &promised)
    });
    let own = own.collect();
    ground.may_store(8 << 20);
    serve(ground, |_| Vec::new(), own).await
}

/// It claims 100,000 sessions of each CoValue that it hears of.
pub(crate) async fn claims(ground: &mut Ground) -> Result<()> {
    let count = ground.pick(100_000, 20_000);
    let sessions = wire::invented_sessions(&mut ground.rng, count);
    serve(ground, move |id| vec![wire::known(id, &sessions)], Vec::new()).await
}

/// It sends valid content that no client has asked for.
pub(crate) async fn unasked_content(ground: &mut Ground) -> Result<()> {
    let author = Author::new(1_001);
    let count = ground.pick(20_000, 4_000);
    let contents: Vec<Content> = (0..count)
        .map(|number| {
            let header = author.open_map(&format!("unasked {number}"));
            Log::new(header, author.agent_session(0)).write(&author, vec![sized(100)])
        })
        .collect();
    let own: Vec<String> = contents.into_iter().map(wire::content).collect();
    ground.may_store(own.iter().map(String::len).sum());
    serve(ground, |_| Vec::new(), own).await
}

/// Accepts the server's connections, sends messages of its own on each, and answers each message
/// with the messages that `answer` makes of its id. Clients load CoValues that only the upstream
/// can have.
async fn serve(
    ground: &mut Ground,
    answer: impl Fn(&str) -> Vec<String> + Send + Sync + 'static,
    own: Vec<String>,
) -> Result<()> {
    let listener = ground.upstream.take().context("the server has an upstream")?;
    let (begun, begins) = oneshot::channel();
    let liar = Liar { own, answer, counters: ground.counters.clone() };
    tokio::spawn(async move {
        let mut begins = Some(begins);
        // The server connects again after it has given the upstream up.
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(socket) = accept(stream).await {
                // Ends with the connection.
                let _ = liar.serve(socket, &mut begins).await;
            }
        }
    });
    ground.begin().await?;
    let _ = begun.send(());
    let address = ground.address.to_string();
    let mut client = Link::connect(&address).await?;
    for _ in 0..ground.pick(15, 4) {
        for id in ground.random_ids(ASKED) {
            let load = Message::Load(KnownState::empty(id));
            // The server may close a client that asks for too much.
            if client.send(load.clone()).await.is_err() {
                client = Link::connect(&address).await?;
                client.send(load).await?;
            }
        }
        ground.pause(Duration::from_secs(1)).await?;
    }
    Ok(())
}

/// An upstream that lies.
struct Liar<A> {
    own: Vec<String>,
    answer: A,
    counters: Arc<Counters>,
}

impl<A: Fn(&str) -> Vec<String>> Liar<A> {
    /// Serves a connection. Nothing is sent but pings until the attack begins.
    async fn serve(
        &self,
        mut socket: WebSocketStream<TcpStream>,
        begins: &mut Option<oneshot::Receiver<()>>,
    ) -> Result<()> {
        let mut pings = tokio::time::interval(PING_INTERVAL);
        let mut is_told = false;
        loop {
            if begins.is_none() && !is_told {
                is_told = true;
                for text in &self.own {
                    self.count(text);
                    socket.feed(Frame::text(text.clone())).await?;
                }
                socket.flush().await?;
            }
            tokio::select! {
                () = begun(begins), if begins.is_some() => *begins = None,
                _ = pings.tick() => socket.send(Frame::text(PING)).await?,
                frame = socket.next() => {
                    let frame = frame.context("the server has closed")??;
                    if begins.is_some() {
                        continue;
                    }
                    for id in ids(frame.to_text().unwrap_or_default()) {
                        for text in (self.answer)(id) {
                            self.count(&text);
                            socket.send(Frame::text(text)).await?;
                        }
                    }
                }
            }
        }
    }

    fn count(&self, text: &str) {
        self.counters.messages.fetch_add(1, Ordering::Relaxed);
        self.counters.sent.fetch_add(text.len() as u64, Ordering::Relaxed);
    }
}

async fn begun(begins: &mut Option<oneshot::Receiver<()>>) {
    if let Some(begins) = begins {
        let _ = begins.await;
    }
}

/// The ids of the messages in a frame.
fn ids(frame: &str) -> impl Iterator<Item = &str> {
    frame.lines().filter_map(|line| {
        let (_, rest) = line.split_once(r#""id":""#)?;
        Some(rest.split_once('"')?.0)
    })
}

async fn accept(stream: TcpStream) -> Result<WebSocketStream<TcpStream>> {
    let config = WebSocketConfig::default();
    Ok(tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?)
}

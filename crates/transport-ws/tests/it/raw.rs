//! A client that writes and reads bytes, and so can do everything wrong.

use std::time::Duration;

use downbeat_transport::{Connection, Listener};
use downbeat_transport_ws::{WsListener, WsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
const CONTINUATION: u8 = 0x0;

pub(crate) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
}

#[derive(Debug, PartialEq)]
pub(crate) struct RawFrame {
    pub(crate) last: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// The code and text of a close frame.
    pub(crate) fn reason(&self) -> (u16, &str) {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        let (code, text) = self.payload.split_first_chunk().expect("a close frame with a code");
        (u16::from_be_bytes(*code), std::str::from_utf8(text).unwrap())
    }
}

/// A listener with these options, and a raw client that is connected to it.
pub(crate) async fn upgraded(options: WsOptions) -> (RawClient, Connection) {
    let mut listener = WsListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut client = RawClient::connect(&listener).await;
    let upgrading = async {
        client.write(UPGRADE.as_bytes()).await;
        assert!(client.read_head().await.starts_with("HTTP/1.1 101 "));
    };
    let ((), server) = tokio::join!(upgrading, listener.accept());
    (client, server.unwrap())
}

/// Drives a listener that returns no connection.
pub(crate) async fn accept_nothing<T>(listener: &mut WsListener) -> T {
    let connection = listener.accept().await;
    panic!("a connection came of it: {connection:?}");
}

/// The bytes of a masked frame.
pub(crate) fn frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(last, opcode, payload.len() as u64);
    bytes.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a masked frame that announces a payload of this length.
pub(crate) fn header(last: bool, opcode: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![u8::from(last) << 7 | opcode];
    match length {
        0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        126..=0xFFFF => {
            bytes.push(0xFE);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0xFF);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend([1, 2, 3, 4]);
    bytes
}

impl RawClient {
    pub(crate) async fn connect(listener: &WsListener) -> Self {
        let stream = TcpStream::connect(listener.local_address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The head of an HTTP response.
    pub(crate) async fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.expect("a whole head of a response"));
        }
        String::from_utf8(head).unwrap()
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn read_all(&mut self) -> String {
        let mut all = Vec::new();
        let reading = self.stream.read_to_end(&mut all);
        tokio::time::timeout(PATIENCE, reading).await.expect("the end in time").unwrap();
        String::from_utf8(all).unwrap()
    }

    pub(crate) async fn read_frame(&mut self) -> RawFrame {
        tokio::time::timeout(PATIENCE, self.frame()).await.expect("a frame in time")
    }

    /// The next message, put together from its fragments.
    pub(crate) async fn read_message(&mut self) -> RawFrame {
        let mut message = self.read_frame().await;
        while !message.last {
            let next = self.read_frame().await;
            assert_eq!(next.opcode, CONTINUATION);
            message.payload.extend(next.payload);
            message.last = next.last;
        }
        message
    }

    async fn frame(&mut self) -> RawFrame {
        let first = self.stream.read_u8().await.unwrap();
        let second = self.stream.read_u8().await.unwrap();
        assert_eq!(second & 0x80, 0, "a server's frames are not masked");
        let length = match second & 0x7F {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        RawFrame { last: first & 0x80 != 0, opcode: first & 0x0F, payload }
    }
}

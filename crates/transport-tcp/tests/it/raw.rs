//! A client that writes its bytes itself.

use std::time::Duration;

use downbeat_transport::{Connection, Listener};
use downbeat_transport_tcp::{TcpListener, TcpOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for anything that is going to happen, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const MAGIC: &[u8] = b"\xD0BEAT\r\n\0";

/// A hello of version 1: role, no signs of life, a name and a key.
pub(crate) fn hello(name: &str, key: &str) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0];
    body.push(u8::try_from(name.len()).unwrap());
    body.extend(name.as_bytes());
    body.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
    body.extend(key.as_bytes());
    with_head([1, 1], &body)
}

pub(crate) fn with_head(pair: [u8; 2], body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [MAGIC, &pair, &length.to_be_bytes(), body].concat()
}

/// A frame of this kind.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&[kind], &length.to_be_bytes()[..], payload].concat()
}

pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
}

impl RawClient {
    pub(crate) async fn connect(listener: &TcpListener) -> Self {
        let stream = TcpStream::connect(listener.local_address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// An answer's two bytes and its body.
    pub(crate) async fn read_answer(&mut self) -> ([u8; 2], Vec<u8>) {
        let reading = async {
            let mut head = [0; 12];
            self.stream.read_exact(&mut head).await.unwrap();
            assert_eq!(&head[..8], MAGIC);
            let mut body = vec![0; u16::from_be_bytes([head[10], head[11]]).into()];
            self.stream.read_exact(&mut body).await.unwrap();
            ([head[8], head[9]], body)
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time")
    }

    /// The next frame's kind and payload.
    pub(crate) async fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let reading = async {
            let kind = self.stream.read_u8().await.unwrap();
            let mut payload = vec![0; self.stream.read_u32().await.unwrap().try_into().unwrap()];
            self.stream.read_exact(&mut payload).await.unwrap();
            (kind, payload)
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("a frame in time")
    }

    /// The code and text of a close frame, which must be next.
    pub(crate) async fn read_close(&mut self) -> (u16, String) {
        let (kind, payload) = self.read_frame().await;
        assert_eq!(kind, 2);
        let (code, text) = payload.split_first_chunk().unwrap();
        (u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).unwrap())
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn read_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let reading = self.stream.read_to_end(&mut all);
        // A reset is an end as well.
        let _ = tokio::time::timeout(PATIENCE, reading).await.expect("the end in time");
        all
    }
}

/// A listener with these options, and a raw client whose hello it has answered.
pub(crate) async fn welcomed(options: TcpOptions) -> (RawClient, Connection) {
    let mut listener = TcpListener::bind("127.0.0.1:0", options).await.unwrap();
    let mut client = RawClient::connect(&listener).await;
    let greeting = async {
        client.write(&hello("raw", "")).await;
        assert_eq!(client.read_answer().await.0, [0, 1]);
    };
    let ((), server) = tokio::join!(greeting, listener.accept());
    (client, server.unwrap())
}

/// Drives a listener that returns no connection.
pub(crate) async fn accept_nothing<T>(listener: &mut TcpListener) -> T {
    let connection = listener.accept().await;
    panic!("a connection came of it: {connection:?}");
}

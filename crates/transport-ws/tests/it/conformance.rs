use std::time::Duration;

use downbeat_transport::{Connection, Connector, Listener, PeerInfo, conformance};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions, WsUrl, accept_over, connect_over};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// A client's and a server's end of a new connection.
pub(crate) async fn connect(options: WsOptions) -> (Connection, Connection) {
    let mut listener = WsListener::bind("127.0.0.1:0", options.clone()).await.unwrap();
    let connector = WsConnector::new(&listener.url(), options).unwrap();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    (client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn websockets_conform_on_one_thread() {
    conformance::run(|| connect(WsOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn websockets_conform_on_several_threads() {
    conformance::run(|| connect(WsOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_other_streams_conform() {
    conformance::run(|| over(WsOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_conforms() {
    conformance::run_listener(|| async {
        let listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await.unwrap();
        let connector = WsConnector::new(&listener.url(), WsOptions::default()).unwrap();
        (listener, connector)
    })
    .await;
}

#[tokio::test]
async fn bad_input_is_handled_by_the_rules() {
    let input = conformance::BadInput {
        garbage: vec![0xFF; 64],
        oversized: [&[0x81, 0xFF][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat(),
        unfinished: [0x81, 0x85, 0, 0, 0, 0, b'x'].to_vec(),
    };
    conformance::run_bad_input(&input, upgraded_over).await;
}

#[tokio::test]
async fn silence_is_handled_by_the_rules() {
    let options = WsOptions { silence_timeout: Duration::from_millis(300), ..WsOptions::default() };
    conformance::run_silence(|| async {
        let (client, server) = over(options.clone()).await;
        (server, client)
    })
    .await;
}

/// A client's and a server's end of a connection over a stream in memory.
async fn over(options: WsOptions) -> (Connection, Connection) {
    let (near, far) = duplex(8 << 10);
    let url = WsUrl::parse("ws://localhost/").unwrap();
    let connecting = connect_over(near, &url, &options);
    let accepting = accept_over(far, PeerInfo::new("the client"), &options);
    tokio::try_join!(connecting, accepting).unwrap()
}

/// The stream of a client after its upgrade, and the server's end.
async fn upgraded_over() -> (DuplexStream, Connection) {
    let (mut near, far) = duplex(8 << 10);
    let options = WsOptions::default();
    let upgrading = async {
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        near.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
    };
    let accepting = accept_over(far, PeerInfo::new("the client"), &options);
    let ((), server) = tokio::join!(upgrading, accepting);
    (near, server.unwrap())
}

use std::time::Duration;

use downbeat_transport::tls::{ClientTls, ServerTls};
use downbeat_transport::{Connection, Connector, Listener, PeerInfo, conformance};
use downbeat_transport_tcp::{TcpConnector, TcpListener, TcpOptions, accept_over, connect_over};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::raw::hello;
use crate::tls::Authority;

/// A client's and a server's end of a new connection.
pub(crate) async fn connect(options: TcpOptions) -> (Connection, Connection) {
    let mut listener = TcpListener::bind("127.0.0.1:0", options.clone()).await.unwrap();
    let connector = TcpConnector::new(&listener.url(), options).unwrap();
    let (client, server) = tokio::join!(connector.connect(), listener.accept());
    (client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn tcp_conforms_on_one_thread() {
    conformance::run(|| connect(TcpOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tcp_conforms_on_several_threads() {
    conformance::run(|| connect(TcpOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_with_tls_conforms() {
    let authority = Authority::new();
    let (certificate, key) = authority.server("127.0.0.1");
    let options = TcpOptions {
        tls: Some(ServerTls::from_files(certificate, key).unwrap()),
        client_tls: ClientTls::new().with_authorities(authority.file()).unwrap(),
        ..TcpOptions::default()
    };
    conformance::run(|| connect(options.clone())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_other_streams_conform() {
    conformance::run(|| over(TcpOptions::default(), TcpOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_conforms() {
    conformance::run_listener(|| async {
        let listener = TcpListener::bind("127.0.0.1:0", TcpOptions::default()).await.unwrap();
        let connector = TcpConnector::new(&listener.url(), TcpOptions::default()).unwrap();
        (listener, connector)
    })
    .await;
}

#[tokio::test]
async fn bad_input_is_handled_by_the_rules() {
    let input = conformance::BadInput {
        garbage: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        oversized: [1, 255, 255, 255, 255].to_vec(),
        unfinished: [1, 0, 0, 1, 0, b'x'].to_vec(),
    };
    conformance::run_bad_input(&input, welcomed_over).await;
}

#[tokio::test]
async fn silence_is_handled_by_the_rules() {
    let options =
        TcpOptions { silence_timeout: Duration::from_millis(300), ..TcpOptions::default() };
    conformance::run_silence(|| over(TcpOptions::default(), options.clone())).await;
}

/// A client's and a server's end of a connection over a stream in memory.
async fn over(client: TcpOptions, server: TcpOptions) -> (Connection, Connection) {
    let (near, far) = duplex(8 << 10);
    let connecting = connect_over(near, PeerInfo::new("the server"), &client);
    let accepting = accept_over(far, PeerInfo::new("the client"), &server);
    tokio::try_join!(connecting, accepting).unwrap()
}

/// The stream of a client that has been welcomed, and the server's end.
async fn welcomed_over() -> (DuplexStream, Connection) {
    let (mut near, far) = duplex(8 << 10);
    let options = TcpOptions::default();
    let greeting = async {
        near.write_all(&hello("raw", "")).await.unwrap();
        let mut head = [0; 12];
        near.read_exact(&mut head).await.unwrap();
        near.read_exact(&mut vec![0; usize::from(head[11])]).await.unwrap();
    };
    let accepting = accept_over(far, PeerInfo::new("the client"), &options);
    let ((), server) = tokio::join!(greeting, accepting);
    (near, server.unwrap())
}

//! The example transport runs, and conforms.

use downbeat_protocol::Message;
use downbeat_transport::{Connector, Listener, conformance};
use downbeat_transport_tcp::TcpOptions;
use tempfile::TempDir;

#[path = "../../examples/unix_socket.rs"]
mod unix_socket;

use unix_socket::{UnixSocketConnector, UnixSocketListener};

#[tokio::test]
async fn the_unix_socket_example_runs() {
    let dir = TempDir::new().unwrap();
    let messages = unix_socket::run(&dir.path().join("downbeat.sock")).await.unwrap();
    assert_eq!(messages, [Message::ReconcileAck("batch 1".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unix_socket_example_conforms() {
    let dir = TempDir::new().unwrap();
    let mut number = 0;
    let mut bind = || {
        number += 1;
        let path = dir.path().join(format!("{number}.sock"));
        let listener = UnixSocketListener::bind(&path, TcpOptions::default()).unwrap();
        (listener, UnixSocketConnector::new(path, TcpOptions::default()))
    };
    conformance::run_listener(|| std::future::ready(bind())).await;
    conformance::run(|| {
        let (mut listener, connector) = bind();
        async move { tokio::try_join!(connector.connect(), listener.accept()).unwrap() }
    })
    .await;
}

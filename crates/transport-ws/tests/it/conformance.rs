use downbeat_transport::{Connection, Connector, Listener, conformance};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};

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

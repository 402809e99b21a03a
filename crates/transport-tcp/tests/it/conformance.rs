use downbeat_transport::tls::{ClientTls, ServerTls};
use downbeat_transport::{Connection, Connector, Listener, conformance};
use downbeat_transport_tcp::{TcpConnector, TcpListener, TcpOptions};

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

//! Two nodes, the same over every transport.

use std::sync::Arc;
use std::time::Duration;

use downbeat_node::{LocalError, Node};
use downbeat_storage::MemoryStorage;
use downbeat_transport::{Connector, Listener};
use downbeat_transport_tcp::{TcpConnector, TcpListener, TcpOptions};
use downbeat_transport_ws::{WsConnector, WsListener, WsOptions};

use crate::given::{Author, SOON, count, link, map, node, transaction, wait_for};

/// What is between the nodes.
#[derive(Clone, Copy)]
enum Wire {
    InProcess,
    WebSocket,
    Tcp,
}

/// A node and its upstream.
async fn nodes(wire: Wire) -> (Node, Node) {
    match wire {
        Wire::InProcess => {
            let (edge, server) = (node(), node());
            link(&edge, &server, "server").await;
            (edge, server)
        }
        Wire::WebSocket => {
            let listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await.unwrap();
            let connector = WsConnector::new(&listener.url(), WsOptions::default()).unwrap();
            over_sockets(Box::new(listener), Arc::new(connector))
        }
        Wire::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0", TcpOptions::default()).await.unwrap();
            let connector = TcpConnector::new(&listener.url(), TcpOptions::default()).unwrap();
            over_sockets(Box::new(listener), Arc::new(connector))
        }
    }
}

fn over_sockets(listener: Box<dyn Listener>, connector: Arc<dyn Connector>) -> (Node, Node) {
    let server = Node::builder(Arc::new(MemoryStorage::new())).listen(listener).start().unwrap();
    let edge = Node::builder(Arc::new(MemoryStorage::new())).upstream(connector).start().unwrap();
    (edge, server)
}

async fn what_is_written_here_is_acknowledged_there(wire: Wire) {
    let (edge, server) = nodes(wire).await;
    let author = Author::new();
    let mut value = edge.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.synced(SOON).await.unwrap();
    let mut copy = server.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(count(copy.content(), &author), 1);
    author.write(&mut value, "two").await;
    wait_for(&mut copy, &author, 2).await;
    value.synced(SOON).await.unwrap();
}

async fn what_is_missing_here_is_loaded_from_there(wire: Wire) {
    let (edge, server) = nodes(wire).await;
    let (author, other) = (Author::new(), Author::new());
    let mut value = server.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    let mut copy = edge.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(count(copy.content(), &author), 1);
    author.write(&mut value, "two").await;
    wait_for(&mut copy, &author, 2).await;
    other.write(&mut copy, "from the edge").await;
    wait_for(&mut value, &other, 1).await;
}

async fn large_covalues_go_both_ways_in_pieces(wire: Wire) {
    let (edge, server) = nodes(wire).await;
    let author = Author::new();
    let piece = "x".repeat(10_000);
    for (from, to) in [(&edge, &server), (&server, &edge)] {
        let mut value = from.local().create(map()).await.unwrap();
        let transactions = (0..300).map(|_| transaction(&piece));
        value.append(&author.session, transactions, author.signer()).await.unwrap();
        value.stored(SOON).await.unwrap();
        value.synced(SOON).await.unwrap();
        let copy = to.local().load(value.id(), SOON).await.unwrap();
        assert_eq!(copy.content().known_state(), value.content().known_state());
    }
}

async fn what_the_upstream_does_not_take_is_not_acknowledged(wire: Wire) {
    let (edge, server) = nodes(wire).await;
    let mut value = edge.local().create(map()).await.unwrap();
    value.synced(SOON).await.unwrap();
    server.shutdown().await.unwrap();
    Author::new().write(&mut value, "alone").await;
    value.stored(SOON).await.unwrap();
    let result = value.synced(Duration::from_millis(300)).await;
    assert!(matches!(result, Err(LocalError::NotAcknowledged(..))));
}

#[tokio::test]
async fn an_upstream_needs_a_name_that_can_be_stored() {
    let node = node();
    let (up, _down) = downbeat_transport::pair(1);
    let result = node.connect_upstream("", up).await;
    assert!(matches!(result, Err(downbeat_node::NodeError::UpstreamName { .. })));
}

macro_rules! over {
    ($($module:ident: $wire:expr;)*) => { $(
        mod $module {
            use super::Wire;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_is_written_here_is_acknowledged_there() {
                super::what_is_written_here_is_acknowledged_there($wire).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_is_missing_here_is_loaded_from_there() {
                super::what_is_missing_here_is_loaded_from_there($wire).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn large_covalues_go_both_ways_in_pieces() {
                super::large_covalues_go_both_ways_in_pieces($wire).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_the_upstream_does_not_take_is_not_acknowledged() {
                super::what_the_upstream_does_not_take_is_not_acknowledged($wire).await;
            }
        }
    )* };
}

over! {
    in_process: Wire::InProcess;
    web_socket: Wire::WebSocket;
    tcp: Wire::Tcp;
}

//! The rules for listeners and connectors.

use std::future::Future;
use std::time::Duration;

use super::{RULE_TIMEOUT, small, take};
use crate::connection::{Connection, Connector, Listener};
use crate::error::Blame;

/// The number of clients that connect together.
const CLIENTS: usize = 20;

/// Runs the rules for listeners, each on a new listener that `bind` makes together with a connector
/// to it.
///
/// Panics with the rule's name if the transport breaks one.
pub async fn run_listener<F, B, L, C>(mut bind: F)
where
    F: FnMut() -> B,
    B: Future<Output = (L, C)>,
    L: Listener,
    C: Connector,
{
    macro_rules! rules {
        ($($rule:ident),* $(,)?) => {
            $(
                let (mut listener, connector) = bind().await;
                let playing = $rule(&mut listener, &connector);
                let name = stringify!($rule);
                tokio::time::timeout(RULE_TIMEOUT, playing).await.unwrap_or_else(|_| {
                    panic!("{name} was not done in {RULE_TIMEOUT:?}")
                });
            )*
        };
    }
    rules!(many_clients_connect_together, an_abandoned_accept_loses_no_connection);

    let (listener, connector) = bind().await;
    assert!(!listener.url().is_empty() && !connector.name().is_empty(), "both have names");
    drop(listener);
    let connecting = tokio::time::timeout(RULE_TIMEOUT, connector.connect());
    let result = connecting.await.expect("connecting to no listener ends in time");
    let error = result.expect_err("there is no listener");
    assert_eq!(error.blame(), Blame::Link, "without a listener: {error:?}");
}

async fn many_clients_connect_together(listener: &mut dyn Listener, connector: &dyn Connector) {
    let accepting = async {
        let mut accepted = Vec::new();
        for _ in 0..CLIENTS {
            accepted.push(listener.accept().await.expect("a listening listener"));
        }
        accepted
    };
    let (clients, servers) = tokio::join!(connect_all(connector), accepting);
    assert_paired(clients, servers).await;
}

async fn an_abandoned_accept_loses_no_connection(
    listener: &mut dyn Listener,
    connector: &dyn Connector,
) {
    let accepting = async {
        let mut accepted = Vec::new();
        let mut patience = 0;
        while accepted.len() < CLIENTS {
            patience = (patience + 37) % 400;
            let call = listener.accept();
            if let Ok(connection) =
                tokio::time::timeout(Duration::from_micros(patience), call).await
            {
                accepted.push(connection.expect("a listening listener"));
            }
        }
        accepted
    };
    let (clients, servers) = tokio::join!(connect_all(connector), accepting);
    assert_paired(clients, servers).await;
}

async fn connect_all(connector: &dyn Connector) -> Vec<Connection> {
    let mut connected = Vec::new();
    for _ in 0..CLIENTS {
        connected.push(connector.connect().await.expect("a listening listener"));
    }
    connected
}

/// Every client's message reaches one server's end.
async fn assert_paired(mut clients: Vec<Connection>, mut servers: Vec<Connection>) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.sender.send(&[small(number)]).await.expect("an open connection");
    }
    let mut received = Vec::new();
    for server in &mut servers {
        received.extend(take(server.receiver.as_mut(), 1).await);
    }
    let missing = (0..CLIENTS).map(small).find(|message| !received.contains(message));
    assert_eq!(missing, None, "a connection is lost");
}

//! An edge whose upstream stops answering without closing its connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_crypto::{AgentSecret, random_session_id};
use downbeat_node::Node;
use downbeat_protocol::{Header, Owner, Ruleset, Transaction};
use downbeat_storage::MemoryStorage;
use downbeat_transport_ws::{WsConnector, WsOptions};

use crate::program::{PATIENCE, Server, eventually, get};

/// A silent link ends after 10 s. The rest is for a loaded machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

fn client_of(server: &Server) -> Node {
    let connector = WsConnector::new(&server.url(), WsOptions::default()).unwrap();
    let storage = Arc::new(MemoryStorage::new());
    Node::builder(storage).upstream(Arc::new(connector)).start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_upstream_is_noticed_and_gets_what_it_missed_when_it_goes_on() {
    let core = Server::start(&["--in-memory"]);
    let edge = Server::start(&["--in-memory", "--admin-port", "0", "--upstream", &core.url()]);
    let is_connected = || {
        let (_, _, metrics) = get(&edge.admin(), "/metrics");
        let line = metrics.lines().find(|line| line.starts_with("downbeat_upstream_connected{"));
        line.is_some_and(|line| line.ends_with(" 1"))
    };
    eventually("the link to the upstream", is_connected);

    core.signal("STOP");
    let stopped = Instant::now();
    eventually("the end of the silent link", || !is_connected());
    assert!(stopped.elapsed() < NOTICED_WITHIN, "{:?}", stopped.elapsed());

    // The edge serves its clients meanwhile, and passes their content on afterwards.
    let author = client_of(&edge);
    let me = AgentSecret::generate().unwrap();
    let session = random_session_id(&Owner::Agent(me.agent())).unwrap();
    let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
    let mut map = author.local().create(header).await.unwrap();
    let transaction = Transaction::trusting("[]", 1_700_000_000_000, None);
    map.append(&session, [transaction], me.signer_secret()).await.unwrap();
    map.synced(PATIENCE).await.unwrap();

    core.signal("CONT");
    eventually("a new link to the upstream", is_connected);
    let reader = client_of(&core);
    let deadline = Instant::now() + PATIENCE;
    let copy = loop {
        match reader.local().load(map.id(), PATIENCE).await {
            Ok(copy) => break copy,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(copy.content().session(&session).unwrap().transactions().len(), 1);
    author.shutdown().await.unwrap();
    reader.shutdown().await.unwrap();
}

//! The example runs.

use downbeat_protocol::{CoValueId, KnownState, Message};
use downbeat_transport::Listener;
use downbeat_transport_ws::{WsListener, WsOptions};

#[path = "../../examples/client.rs"]
mod client;

#[tokio::test]
async fn the_client_example_asks_and_returns_the_answers() {
    let mut listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await.unwrap();
    let url = listener.url();
    let id: CoValueId = "co_z1".parse().unwrap();
    let answer = [Message::ReconcileAck("an answer".into())];
    let serving = async {
        let mut server = listener.accept().await.unwrap();
        let frame = server.receiver.receive().await.unwrap().unwrap();
        assert_eq!(frame.messages, [Message::Load(KnownState::empty(id))]);
        server.sender.send(&answer).await.unwrap();
        assert!(server.receiver.receive().await.unwrap().is_none());
    };
    let (answers, ()) = tokio::join!(client::run(&url, id), serving);
    assert_eq!(answers.unwrap(), answer);
}

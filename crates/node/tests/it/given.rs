//! Values and nodes that several tests start from.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use downbeat_core::CoValue;
use downbeat_crypto::{AgentSecret, SignerSecret, random_session_id};
use downbeat_node::{LocalValue, Node, Rates};
use downbeat_protocol::{
    CoValueId, Content, Header, HeaderBuilder, KnownState, Message, Owner, Ruleset, SessionId,
    Transaction, Uniqueness,
};
use downbeat_storage::MemoryStorage;
use downbeat_transport::{Connection, Receiver, Sender, pair};

/// Long enough for anything that is going to happen, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Messages that wait in each direction between nodes in one process.
pub(crate) const PAIR: usize = 16;

/// An agent with a session.
pub(crate) struct Author {
    pub secret: AgentSecret,
    pub session: SessionId,
}

impl Author {
    pub(crate) fn new() -> Self {
        let secret = AgentSecret::generate().unwrap();
        let session = random_session_id(&Owner::Agent(secret.agent())).unwrap();
        Self { secret, session }
    }

    pub(crate) fn signer(&self) -> &SignerSecret {
        self.secret.signer_secret()
    }

    /// Appends one transaction to an open CoValue.
    pub(crate) async fn write(&self, value: &mut LocalValue, text: &str) {
        value.append(&self.session, [transaction(text)], self.signer()).await.unwrap();
    }
}

pub(crate) fn transaction(text: &str) -> Transaction {
    let changes = format!(r#"[{{"key":"a","op":"set","value":"{text}"}}]"#);
    Transaction::trusting(&changes, 1_700_000_000_000, None)
}

/// A new map that anybody may write.
pub(crate) fn map() -> Header {
    unique(Header::builder("comap", Ruleset::UnsafeAllowAll)).build().unwrap()
}

/// Makes a header unlike any other.
pub(crate) fn unique(header: HeaderBuilder) -> HeaderBuilder {
    let random = Author::new();
    let bytes = random.session.to_string().into_bytes();
    let tail = bytes[bytes.len() - 8..].iter().copied().chain([0; 4]);
    let mut unique = [0; 12];
    unique.iter_mut().zip(tail).for_each(|(to, from)| *to = from);
    header.uniqueness(Uniqueness::from_bytes(unique))
}

pub(crate) fn node() -> Node {
    Node::builder(Arc::new(MemoryStorage::new())).start().unwrap()
}

/// Takes `server` for the upstream of `edge`.
pub(crate) async fn link(edge: &Node, server: &Node, name: &str) {
    let (up, down) = pair(PAIR);
    server.connect(down).await.unwrap();
    edge.connect_upstream(name, up).await.unwrap();
}

/// The number of transactions of an author.
pub(crate) fn count(value: &CoValue, author: &Author) -> u64 {
    value.known_state().sessions.get(&author.session)
}

/// Takes what comes until there are this many transactions of an author.
pub(crate) async fn wait_for(value: &mut LocalValue, author: &Author, wanted: u64) {
    let coming = async {
        while count(value.content(), author) < wanted {
            value.changed().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, coming).await.unwrap();
}

/// A client that is played by the test, message by message.
pub(crate) struct Peer {
    pub sender: Box<dyn Sender>,
    pub receiver: Box<dyn Receiver>,
    inbox: VecDeque<Message>,
}

impl Peer {
    pub(crate) async fn connect(node: &Node, capacity: usize) -> Self {
        let (ours, theirs) = pair(capacity);
        node.connect(theirs).await.unwrap();
        Self::over(ours)
    }

    /// The peer at this end of a connection.
    pub(crate) fn over(connection: Connection) -> Self {
        let Connection { sender, receiver, .. } = connection;
        Self { sender, receiver, inbox: VecDeque::new() }
    }

    /// Waits until the node has ended the connection.
    pub(crate) async fn ended(&mut self) {
        let end =
            async { while self.receiver.receive().await.is_ok_and(|frame| frame.is_some()) {} };
        tokio::time::timeout(SOON, end).await.expect("the connection is still open");
    }

    pub(crate) async fn send(&mut self, message: Message) {
        tokio::time::timeout(SOON, self.sender.send(&[message])).await.unwrap().unwrap();
    }

    pub(crate) async fn load(&mut self, id: CoValueId) {
        self.send(Message::Load(KnownState::empty(id))).await;
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return message;
            }
            let incoming = tokio::time::timeout(SOON, self.receiver.receive()).await.unwrap();
            self.inbox.extend(incoming.unwrap().unwrap().messages);
        }
    }

    /// The next content of a CoValue.
    pub(crate) async fn content(&mut self, id: CoValueId) -> Content {
        loop {
            if let Message::Content(content) = self.next().await
                && content.id == id
            {
                return content;
            }
        }
    }

    /// What is acknowledged next.
    pub(crate) async fn known(&mut self) -> KnownState {
        loop {
            if let Message::Known(known) = self.next().await {
                return known.state;
            }
        }
    }
}

/// Sends content, all of it.
pub(crate) async fn send(peer: &mut Peer, contents: Vec<Content>) {
    for content in contents {
        peer.send(Message::Content(content)).await;
    }
}

/// A rate of messages, without one of bytes.
pub(crate) fn rate(messages: u64) -> Rates {
    Rates { messages: NonZeroU64::new(messages), bytes: None }
}

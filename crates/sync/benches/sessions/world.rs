//! A machine with one CoValue of many sessions: an author writes to one session after another,
//! beside clients that are subscribed, and clients that claim sessions which do not exist.

use bytes::Bytes;
use downbeat_crypto::{AgentSecret, HashChain, header_id, session_id, sessions_hash};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Limits, Message, Owner, Priority, Reconcile,
    SessionContent, SessionCounts, SessionId, Signature, Transaction,
};
use downbeat_sync::{
    Action, Config, Event, Item, Loaded, Machine, PeerId, PeerRole, Stored, Verified,
};

/// Sessions that are written, spread over all. The same number in each world, so that worlds differ
/// in the sessions that are not written, and not in the hash chains that are in memory.
const ACTIVE: usize = 10;

/// The size of a world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Sessions of the CoValue.
    pub sessions: usize,
    /// Clients that have all of it, and acknowledge what is new.
    pub subscribers: usize,
    /// Clients that claim as many sessions as there are, but others.
    pub claimants: usize,
}

/// The machine and its peers.
pub(crate) struct World {
    machine: Machine,
    id: CoValueId,
    sessions: Vec<SessionId>,
    /// The counts of one session that does not exist.
    invented: SessionCounts,
    written: Vec<u64>,
    next: usize,
    author: PeerId,
    loaded: Option<Loaded>,
    transaction: Transaction,
    signature: Signature,
    actions: Vec<Action>,
    /// Sessions in the KNOWNs that the author got.
    pub stated_to_author: usize,
}

impl World {
    pub(crate) fn new(size: Size) -> Self {
        let secret = AgentSecret::from_secret_seed(&[1; 32]);
        let header = header(
            r#"{"createdAt":null,"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"comap","uniqueness":"z1"}"#,
        );
        let mut world = Self {
            machine: Machine::new(Config::default()),
            id: header_id(&header),
            sessions: names(size.sessions, 1),
            invented: counts(&names(1, 3)),
            written: vec![1; size.sessions],
            next: 0,
            author: PeerId(0),
            loaded: None,
            transaction: Transaction::trusting(r#"[{"key":"a","op":"set","value":1}]"#, 1, None),
            signature: secret.signer_secret().sign_chain(&HashChain::new()),
            actions: Vec::new(),
            stated_to_author: 0,
        };
        let sessions = counts(&world.sessions);
        let (dependencies, deleted) = (Vec::new(), false);
        world.loaded = Some(Loaded { header, sessions, dependencies, deleted });
        let (all, others) = (counts(&names(size.sessions, 1)), counts(&names(size.sessions, 2)));
        for number in 0..=size.subscribers {
            world.connect(number, all.clone());
        }
        for number in 0..size.claimants {
            world.connect(1 + size.subscribers + number, others.clone());
        }
        world.write();
        world
    }

    /// The author writes one transaction, which goes its whole way.
    pub(crate) fn write(&mut self) {
        let session = self.sessions[self.next].clone();
        let after = self.written[self.next];
        self.written[self.next] += 1;
        let step = self.sessions.len() / ACTIVE;
        self.next = if self.next + step < step * ACTIVE { self.next + step } else { 0 };
        self.send(self.id, None, Some((session, after)));
    }

    /// A session of an account that is new here comes to the CoValue.
    pub(crate) fn add_author(&mut self) {
        let number = self.sessions.len();
        let agent = AgentSecret::from_secret_seed(&[1; 32]).agent();
        let header = header(&format!(
            r#"{{"createdAt":null,"meta":{{"type":"account"}},"ruleset":{{"initialAdmin":"{agent}","type":"group"}},"type":"comap","uniqueness":"z{number}"}}"#
        ));
        let account = header_id(&header);
        self.send(account, Some(header), None);
        let session = session_id(&Owner::Account(account), [1; 8]);
        self.sessions.push(session.clone());
        self.written.push(1);
        self.send(self.id, None, Some((session, 0)));
    }

    /// The author sends a header, or a transaction.
    fn send(&mut self, id: CoValueId, header: Option<Header>, write: Option<(SessionId, u64)>) {
        let run = write.map(|(session, after)| SessionContent {
            session,
            after,
            transactions: vec![self.transaction.clone()],
            last_signature: self.signature,
        });
        let content = Content {
            id,
            header,
            priority: Priority::Medium,
            sessions: run.into_iter().collect(),
            malformed: Vec::new(),
            expect_content_until: None,
        };
        self.receive(self.author, Message::Content(content));
        self.settle();
    }

    /// A client that has just connected states that it has a session, in a short message.
    pub(crate) fn state_one(&mut self, number: usize) {
        self.know(peer(number), self.invented.clone());
        self.settle();
    }

    /// A client compares the CoValue with what it has.
    pub(crate) fn reconcile(&mut self, number: usize) {
        let values = vec![(self.id, sessions_hash(&SessionCounts::new()))];
        let reconcile = Reconcile { id: "x".to_owned(), values };
        self.receive(peer(number), Message::Reconcile(reconcile));
        self.settle();
    }

    fn connect(&mut self, number: usize, sessions: SessionCounts) {
        self.machine.handle(0, Event::Connected { peer: peer(number), role: PeerRole::Client });
        let state = KnownState { id: self.id, header: true, sessions };
        self.receive(peer(number), Message::Load(state));
        self.settle();
    }

    fn receive(&mut self, peer: PeerId, message: Message) {
        self.machine.handle(0, Event::Received { peer, message });
    }

    fn know(&mut self, peer: PeerId, sessions: SessionCounts) {
        let state = KnownState { id: self.id, header: true, sessions };
        let known = Known { state, is_correction: false, as_dependency_of: None };
        self.receive(peer, Message::Known(known));
    }

    fn settle(&mut self) {
        loop {
            self.machine.poll(&mut self.actions);
            if self.actions.is_empty() {
                return;
            }
            for action in std::mem::take(&mut self.actions) {
                self.carry_out(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Load(id) => {
                let result = Ok(self.loaded.take().map(Box::new));
                self.machine.handle(0, Event::Loaded { id, result });
            }
            Action::Verify(job) => {
                let (id, session) = (job.id, job.session);
                let chain = Some(job.chain.unwrap_or_default());
                let verified = Verified { id, session, accepted: job.runs, chain, rejection: None };
                self.machine.handle(0, Event::Verified(verified));
            }
            Action::Store(job) => {
                let ends = job.sessions.iter().map(|run| (run.session.clone(), run.end()));
                let stored = Stored { id: job.id, durable: ends.collect(), conflict: false };
                self.machine.handle(0, Event::Stored(stored));
            }
            Action::Turn { peer, items } => {
                self.machine.handle(0, Event::TurnDone { peer, progress: Vec::new() });
                for item in items {
                    match item {
                        Item::Content(item) if item.id == self.id => self.know(peer, item.until),
                        Item::Message(Message::Known(known)) if peer == self.author => {
                            self.stated_to_author += known.state.sessions.len();
                        }
                        Item::Content(_) | Item::Message(_) => {}
                    }
                }
            }
            Action::Release { .. } | Action::AwaitTurn(_) => {}
            other => panic!("nothing else is done: {other:?}"),
        }
    }
}

fn peer(number: usize) -> PeerId {
    PeerId(u64::try_from(number).unwrap_or(u64::MAX))
}

fn header(json: &str) -> Header {
    let json = Bytes::copy_from_slice(json.as_bytes());
    Header::parse(&json, &Limits::default()).expect("the header is well formed")
}

/// Session ids that share no memory with others, like those in a message.
fn names(count: usize, group: u64) -> Vec<SessionId> {
    let agent = AgentSecret::from_secret_seed(&[1; 32]).agent();
    (0..count as u64)
        .map(|number| {
            // Looks random, so that sessions of both groups alternate.
            let random = (number * 2 + group).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            session_id(&Owner::Agent(agent.clone()), random.to_le_bytes())
        })
        .collect()
}

fn counts(sessions: &[SessionId]) -> SessionCounts {
    sessions.iter().map(|session| (session.clone(), 1)).collect()
}

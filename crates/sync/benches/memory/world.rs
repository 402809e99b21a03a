//! A machine whose clients load very many CoValues.

use bytes::Bytes;
use downbeat_crypto::{AgentSecret, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Header, Known, KnownState, Limits, Message, Owner, SessionCounts, SessionId,
};
use downbeat_sync::{Action, Config, Event, Item, Loaded, Machine, PeerId, PeerRole};

/// Transactions in the one session of each CoValue.
const TRANSACTIONS: u64 = 5;

/// A machine with clients that load and a storage that has everything.
pub(crate) struct World {
    machine: Machine,
    values_per_peer: usize,
    peers: usize,
    actions: Vec<Action>,
    session: SessionId,
    header: Option<Header>,
}

impl World {
    pub(crate) fn new(config: Config, values_per_peer: usize) -> Self {
        let agent = AgentSecret::from_secret_seed(&[1; 32]).agent();
        Self {
            machine: Machine::new(config),
            values_per_peer,
            peers: 0,
            actions: Vec::new(),
            session: session_id(&Owner::Agent(agent), [1; 8]),
            header: None,
        }
    }

    /// Clients load this many different CoValues, and acknowledge them.
    pub(crate) fn load_all(&mut self, values: usize) {
        for number in 0..values {
            self.load(number);
        }
        self.actions = Vec::new();
    }

    /// Ends all connections.
    pub(crate) fn disconnect_all(&mut self) {
        for peer in 0..self.peers {
            self.machine.handle(0, Event::Disconnected(peer_id(peer)));
        }
        self.settle();
        self.actions = Vec::new();
    }

    fn load(&mut self, number: usize) {
        let peer = peer_id(number / self.values_per_peer);
        if number.is_multiple_of(self.values_per_peer) {
            self.peers += 1;
            self.machine.handle(0, Event::Connected { peer, role: PeerRole::Client });
        }
        let json = format!(
            r#"{{"createdAt":null,"meta":null,"ruleset":{{"type":"unsafeAllowAll"}},"type":"comap","uniqueness":"z{number}"}}"#
        );
        let header = Header::parse(&Bytes::from(json), &Limits::default())
            .expect("the header is well formed");
        let message = Message::Load(KnownState::empty(header_id(&header)));
        self.header = Some(header);
        self.machine.handle(0, Event::Received { peer, message });
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            self.machine.poll(&mut self.actions);
            if self.actions.is_empty() {
                return;
            }
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::Load(id) => {
                        let result =
                            Ok(self.header.take().map(|header| Box::new(self.stored(header))));
                        self.machine.handle(0, Event::Loaded { id, result });
                    }
                    Action::Turn { peer, items } => {
                        self.machine.handle(0, Event::TurnDone { peer, progress: Vec::new() });
                        for item in items {
                            if let Item::Content(item) = item {
                                self.acknowledge(peer, item.id, item.until);
                            }
                        }
                    }
                    Action::AwaitTurn(_) => {}
                    other => panic!("an action other than a look-up or a turn: {other:?}"),
                }
            }
        }
    }

    fn acknowledge(&mut self, peer: PeerId, id: CoValueId, sessions: SessionCounts) {
        let state = KnownState { id, header: true, sessions };
        let known = Known { state, is_correction: false, as_dependency_of: None };
        self.machine.handle(0, Event::Received { peer, message: Message::Known(known) });
    }

    /// The header is what a storage gives: bytes of its own.
    fn stored(&self, header: Header) -> Loaded {
        Loaded {
            header,
            sessions: SessionCounts::from_iter([(self.session.clone(), TRANSACTIONS)]),
            dependencies: Vec::new(),
            deleted: false,
        }
    }
}

fn peer_id(number: usize) -> PeerId {
    PeerId(u64::try_from(number).unwrap_or(u64::MAX))
}

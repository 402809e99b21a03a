//! Authors of CoValues, with keys made from seeds, so that every run of a test is the same.

use bytes::Bytes;
use downbeat_crypto::{AgentSecret, HashChain, delete_session_id, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Limits, Message, Owner, SessionContent,
    SessionCounts, SessionId, Transaction,
};

/// When all transactions of the tests are made, in milliseconds since the Unix epoch.
const MADE_AT: u64 = 1_700_000_000_000;

/// A CoValue as its author knows it.
#[derive(Clone)]
pub(crate) struct Value {
    pub id: CoValueId,
    pub header: Header,
}

/// Someone who signs.
pub(crate) struct Author {
    seed: u8,
    secret: AgentSecret,
    /// The author's account, which has no transactions.
    pub account: Value,
}

/// A session being written.
#[derive(Clone)]
pub(crate) struct Log {
    pub session: SessionId,
    secret_seed: u8,
    chain: HashChain,
    pub count: u64,
}

impl Author {
    pub(crate) fn new(seed: u8) -> Self {
        let secret = AgentSecret::from_secret_seed(&[seed; 32]);
        let agent = secret.agent();
        let account = Value::from_json(&format!(
            r#"{{"createdAt":null,"meta":{{"type":"account"}},"ruleset":{{"initialAdmin":"{agent}","type":"group"}},"type":"comap","uniqueness":"z{seed}"}}"#
        ));
        Self { seed, secret, account }
    }

    /// A session of the agent, which depends on no account.
    pub(crate) fn agent_log(&self, seed: u8) -> Log {
        self.log(&Owner::Agent(self.secret.agent()), seed)
    }

    /// A session of the account.
    pub(crate) fn account_log(&self, seed: u8) -> Log {
        self.log(&Owner::Account(self.account.id), seed)
    }

    pub(crate) fn delete_log(&self, seed: u8) -> Log {
        let session = delete_session_id(&Owner::Agent(self.secret.agent()), [seed; 7]);
        Log { session, ..self.agent_log(seed) }
    }

    /// A session that says that it is of some CoValue.
    pub(crate) fn log_of(&self, owner: CoValueId, seed: u8) -> Log {
        self.log(&Owner::Account(owner), seed)
    }

    fn log(&self, owner: &Owner, seed: u8) -> Log {
        Log {
            session: session_id(owner, [seed; 8]),
            secret_seed: self.seed,
            chain: HashChain::new(),
            count: 0,
        }
    }
}

impl Log {
    /// Writes as many transactions as there are texts, under one signature.
    pub(crate) fn write(&mut self, changes: &[&str]) -> SessionContent {
        let transactions =
            changes.iter().map(|changes| Transaction::trusting(changes, MADE_AT, None)).collect();
        self.sign(transactions)
    }

    /// Writes one transaction that sets keys, as in a group.
    pub(crate) fn set_keys(&mut self, keys: &[String]) -> SessionContent {
        let changes: Vec<String> = keys
            .iter()
            .map(|key| format!(r#"{{"key":"{key}","op":"set","value":"reader"}}"#))
            .collect();
        self.write(&[&format!("[{}]", changes.join(","))])
    }

    /// Writes the transaction that deletes a CoValue.
    pub(crate) fn delete(&mut self, id: CoValueId) -> SessionContent {
        let meta = format!(r#"{{"deleted":"{id}"}}"#);
        self.sign(vec![Transaction::trusting("[]", MADE_AT, Some(&meta))])
    }

    fn sign(&mut self, transactions: Vec<Transaction>) -> SessionContent {
        let after = self.count;
        for transaction in &transactions {
            self.chain.append(transaction.json());
        }
        self.count += transactions.len() as u64;
        let secret = AgentSecret::from_secret_seed(&[self.secret_seed; 32]);
        SessionContent {
            session: self.session.clone(),
            after,
            transactions,
            last_signature: secret.signer_secret().sign_chain(&self.chain),
        }
    }
}

impl Value {
    fn from_json(json: &str) -> Self {
        let header = Header::parse(&Bytes::from(json.to_owned()), &Limits::unlimited())
            .expect("the tests' headers are well formed");
        Self { id: header_id(&header), header }
    }

    /// A map that anybody may write.
    pub(crate) fn free(name: &str) -> Self {
        Self::from_json(&format!(
            r#"{{"meta":null,"ruleset":{{"type":"unsafeAllowAll"}},"type":"comap","uniqueness":"z{name}"}}"#
        ))
    }

    /// The same, with a meta of so many bytes.
    pub(crate) fn with_meta(name: &str, bytes: usize) -> Self {
        let meta = "x".repeat(bytes);
        Self::from_json(&format!(
            r#"{{"meta":{{"x":"{meta}"}},"ruleset":{{"type":"unsafeAllowAll"}},"type":"comap","uniqueness":"z{name}"}}"#
        ))
    }

    /// A binary stream that anybody may write.
    pub(crate) fn file(name: &str) -> Self {
        Self::from_json(&format!(
            r#"{{"meta":{{"type":"binary"}},"ruleset":{{"type":"unsafeAllowAll"}},"type":"costream","uniqueness":"z{name}"}}"#
        ))
    }

    pub(crate) fn group(name: &str, admin: &Author) -> Self {
        Self::from_json(&format!(
            r#"{{"meta":null,"ruleset":{{"initialAdmin":"{}","type":"group"}},"type":"comap","uniqueness":"z{name}"}}"#,
            admin.account.id
        ))
    }

    /// A map that a group owns.
    pub(crate) fn owned(name: &str, group: &Self) -> Self {
        Self::from_json(&format!(
            r#"{{"meta":null,"ruleset":{{"group":"{}","type":"ownedByGroup"}},"type":"comap","uniqueness":"z{name}"}}"#,
            group.id
        ))
    }

    /// A branch of another CoValue.
    pub(crate) fn branch(name: &str, source: &Self) -> Self {
        Self::from_json(&format!(
            r#"{{"meta":{{"source":"{}"}},"ruleset":{{"type":"unsafeAllowAll"}},"type":"comap","uniqueness":"z{name}"}}"#,
            source.id
        ))
    }

    /// A content message with the header.
    pub(crate) fn whole(&self, sessions: Vec<SessionContent>) -> Message {
        self.content(Some(self.header.clone()), sessions)
    }

    /// A content message without the header.
    pub(crate) fn more(&self, sessions: Vec<SessionContent>) -> Message {
        self.content(None, sessions)
    }

    fn content(&self, header: Option<Header>, sessions: Vec<SessionContent>) -> Message {
        Message::Content(Content {
            id: self.id,
            header,
            priority: self.header.priority(),
            sessions,
            malformed: Vec::new(),
            expect_content_until: None,
        })
    }

    pub(crate) fn load_nothing(&self) -> Message {
        Message::Load(KnownState::empty(self.id))
    }

    pub(crate) fn load(&self, counts: &[(&Log, u64)]) -> Message {
        Message::Load(self.state(counts))
    }

    pub(crate) fn known(&self, counts: &[(&Log, u64)]) -> Message {
        let state = self.state(counts);
        Message::Known(Known { state, is_correction: false, as_dependency_of: None })
    }

    pub(crate) fn correction(&self, counts: &[(&Log, u64)]) -> Message {
        let state = self.state(counts);
        Message::Known(Known { state, is_correction: true, as_dependency_of: None })
    }

    pub(crate) fn known_nothing(&self) -> Message {
        let state = KnownState::empty(self.id);
        Message::Known(Known { state, is_correction: false, as_dependency_of: None })
    }

    fn state(&self, counts: &[(&Log, u64)]) -> KnownState {
        KnownState { id: self.id, header: true, sessions: counts_of(counts) }
    }
}

pub(crate) fn counts_of(counts: &[(&Log, u64)]) -> SessionCounts {
    counts.iter().map(|(log, count)| (log.session.clone(), *count)).collect()
}

/// The same run with a signature that was made for something else.
pub(crate) fn forged(mut run: SessionContent) -> SessionContent {
    let changes = r#"[{"key":"forged","op":"set","value":1}]"#;
    if let Some(transaction) = run.transactions.first_mut() {
        *transaction = Transaction::trusting(changes, MADE_AT, None);
    }
    run
}

/// What a message takes of its sender's credit.
pub(crate) fn credit(message: &Message) -> u64 {
    match message {
        Message::Content(content) => downbeat_sync::cost::content_credit(content),
        _ => 0,
    }
}

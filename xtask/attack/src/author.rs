//! Content with valid signatures, created from a seed.

use downbeat_crypto::{AgentSecret, HashChain, delete_session_id, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Content, Header, KnownState, Owner, Ruleset, SessionContent, SessionCounts,
    SessionId, Signature, Transaction, Uniqueness,
};

/// The time of all transactions, in milliseconds since the Unix epoch.
pub(crate) const MADE_AT: u64 = 1_700_000_000_000;

/// A key pair with an account and a group.
pub(crate) struct Author {
    secret: AgentSecret,
    account: Header,
    group: Header,
    seed: u64,
}

/// The log of one session of a CoValue, for writing.
#[derive(Clone)]
pub(crate) struct Log {
    header: Header,
    id: CoValueId,
    session: SessionId,
    chain: HashChain,
    count: u64,
}

impl Author {
    pub(crate) fn new(seed: u64) -> Self {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let secret = AgentSecret::from_secret_seed(&key);
        let account = Header::account(&secret.agent());
        let initial_admin = Owner::Account(header_id(&account));
        let group = header(Ruleset::Group { initial_admin }, &format!("group {seed}"));
        Self { secret, account, group, seed }
    }

    /// The account and the group, which the content of [`Self::map`] depends on.
    pub(crate) fn basics(&self) -> Vec<Content> {
        let own = session_id(&Owner::Agent(self.secret.agent()), [1; 8]);
        let agent = self.secret.agent();
        let mut account = Log::new(self.account.clone(), own);
        let mut group = Log::new(self.group.clone(), self.session(0));
        vec![
            account.write(self, vec![set(agent.as_str(), "admin")]),
            group.write(self, vec![set(self.account_id().as_str(), "admin")]),
        ]
    }

    pub(crate) fn account_id(&self) -> CoValueId {
        header_id(&self.account)
    }

    pub(crate) fn group_id(&self) -> CoValueId {
        header_id(&self.group)
    }

    /// One of the account's sessions.
    pub(crate) fn session(&self, number: u64) -> SessionId {
        session_id(&Owner::Account(self.account_id()), number.to_be_bytes())
    }

    /// One of the agent's sessions, which need no account.
    pub(crate) fn agent_session(&self, number: u64) -> SessionId {
        session_id(&Owner::Agent(self.secret.agent()), number.to_be_bytes())
    }

    /// One of the account's delete sessions.
    pub(crate) fn delete_session(&self, number: u64) -> SessionId {
        let [_, bytes @ ..] = number.to_be_bytes();
        delete_session_id(&Owner::Account(self.account_id()), bytes)
    }

    /// A map of the group.
    pub(crate) fn map(&self, name: &str) -> Header {
        header(Ruleset::OwnedByGroup { group: self.group_id() }, &format!("{name} {}", self.seed))
    }

    /// A map without dependencies, which every agent may write.
    pub(crate) fn open_map(&self, name: &str) -> Header {
        header(Ruleset::UnsafeAllowAll, &format!("{name} {}", self.seed))
    }

    /// Another group of the author.
    pub(crate) fn group(&self, name: &str) -> Header {
        let initial_admin = Owner::Agent(self.secret.agent());
        header(Ruleset::Group { initial_admin }, &format!("{name} {}", self.seed))
    }
}

impl Log {
    pub(crate) fn new(header: Header, session: SessionId) -> Self {
        Self { id: header_id(&header), header, session, chain: HashChain::new(), count: 0 }
    }

    pub(crate) fn id(&self) -> CoValueId {
        self.id
    }

    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn known_state(&self) -> KnownState {
        let mut sessions = SessionCounts::new();
        sessions.set(&self.session, self.count);
        KnownState { id: self.id, header: true, sessions }
    }

    /// Appends transactions with one signature. The first content includes the header.
    pub(crate) fn write(&mut self, author: &Author, transactions: Vec<Transaction>) -> Content {
        let header = (self.count == 0).then(|| self.header.clone());
        Content { header, ..self.append(author, transactions) }
    }

    /// The same without the header.
    pub(crate) fn append(&mut self, author: &Author, transactions: Vec<Transaction>) -> Content {
        for transaction in &transactions {
            self.chain.append(transaction.json());
        }
        let after = self.count;
        self.count += transactions.len() as u64;
        let last_signature = author.secret.signer_secret().sign_chain(&self.chain);
        let session = self.session.clone();
        let run = SessionContent { session, after, transactions, last_signature };
        content(self.id, &self.header, vec![run])
    }
}

/// Content without a header.
pub(crate) fn content(id: CoValueId, header: &Header, sessions: Vec<SessionContent>) -> Content {
    Content {
        id,
        header: None,
        priority: header.priority(),
        sessions,
        malformed: Vec::new(),
        expect_content_until: None,
    }
}

/// A well-formed signature of nothing.
pub(crate) fn wrong_signature(number: u64) -> Signature {
    let mut bytes = [9; 64];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    // The second half must be a number below the order of the curve.
    bytes[63] = 0;
    Signature::from_bytes(&bytes)
}

/// A transaction that sets a key.
pub(crate) fn set(key: &str, value: &str) -> Transaction {
    let changes = format!(r#"[{{"key":"{key}","op":"set","value":"{value}"}}]"#);
    Transaction::trusting(&changes, MADE_AT, None)
}

/// A transaction of about this many bytes.
pub(crate) fn sized(bytes: usize) -> Transaction {
    set("text", &"x".repeat(bytes))
}

fn header(ruleset: Ruleset, name: &str) -> Header {
    Header::builder("comap", ruleset)
        .created_at("2026-01-01T00:00:00.000Z")
        .uniqueness(Uniqueness::Text(name.to_owned()))
        .build()
        .expect("these headers are well formed")
}

//! Fixtures: CoValues, and logs signed by their authors.

use downbeat_crypto::{
    AgentSecret, HashChain, VerifyingKey, delete_session_id, header_id, session_id,
};
use downbeat_protocol::{
    CoValueId, Header, Owner, Ruleset, SessionContent, SessionCounts, SessionId, Signature,
    Transaction, Uniqueness,
};

use super::Store;
use crate::types::{Outcome, SessionOutcome, StoredCoValue, Write};

/// A budget larger than everything that a rule stores.
pub(crate) const ALL: usize = 1 << 30;

/// A CoValue for a test. Equal numbers give equal CoValues.
#[derive(Debug, Clone)]
pub struct CoValueFixture {
    /// Its id, the hash of the header.
    pub id: CoValueId,
    /// Its header.
    pub header: Header,
}

impl CoValueFixture {
    /// The CoValue with this number.
    pub fn new(number: u64) -> Self {
        Self::build(number, None)
    }

    /// The CoValue with this number, with the JSON of an object as `meta`.
    pub fn with_meta(number: u64, meta: &str) -> Self {
        Self::build(number, Some(meta))
    }

    fn build(number: u64, meta: Option<&str>) -> Self {
        let mut random = [0; 12];
        random[..8].copy_from_slice(&number.to_le_bytes());
        let mut builder = Header::builder("comap", Ruleset::UnsafeAllowAll)
            .uniqueness(Uniqueness::from_bytes(random));
        if let Some(meta) = meta {
            builder = builder.meta(meta);
        }
        let header = builder.build().expect("the header of a test is valid");
        Self { id: header_id(&header), header }
    }

    /// The write that creates it, with these extensions.
    pub fn create(&self, sessions: Vec<SessionContent>) -> Write {
        Write::Append { id: self.id, header: Some(self.header.clone()), sessions }
    }

    /// The write that extends it.
    pub fn extend(&self, sessions: Vec<SessionContent>) -> Write {
        Write::Append { id: self.id, header: None, sessions }
    }

    /// The write that deletes it.
    pub fn tombstone(&self, session: SessionContent) -> Write {
        Write::Tombstone { id: self.id, session }
    }
}

/// The author of one session, with everything written so far. Equal numbers give equal authors.
#[derive(Debug, Clone)]
pub struct Author {
    secret: AgentSecret,
    /// The session.
    pub session: SessionId,
    /// The log.
    pub log: Vec<Transaction>,
    chain: HashChain,
}

impl Author {
    /// An agent that writes a session of its own.
    pub fn new(number: u64) -> Self {
        let secret = secret(number);
        let owner = Owner::Agent(secret.agent());
        Self::of_session(secret, session_id(&owner, number.to_le_bytes()))
    }

    /// An agent with a session that deletes a CoValue.
    pub fn deleting(number: u64) -> Self {
        let secret = secret(number);
        let [random @ .., _] = number.to_le_bytes();
        let session = delete_session_id(&Owner::Agent(secret.agent()), random);
        Self::of_session(secret, session)
    }

    /// An agent that writes a session with this id, which may belong to another owner.
    pub(crate) fn of(session: &str) -> Self {
        Self::of_session(secret(0), SessionId::parse(session).expect("the test's session id"))
    }

    fn of_session(secret: AgentSecret, session: SessionId) -> Self {
        Self { secret, session, log: Vec::new(), chain: HashChain::new() }
    }

    /// Extends the log by `transactions` transactions, each with changes of `changes_len` bytes.
    pub fn write(&mut self, transactions: usize, changes_len: usize) -> SessionContent {
        let text = "x".repeat(changes_len.saturating_sub(r#"["12345678"]"#.len()));
        let transactions = (self.log.len()..self.log.len() + transactions)
            .map(|index| format!(r#"["{index:08}{text}"]"#))
            .map(|changes| Transaction::trusting(&changes, 1_700_000_000_000, None))
            .collect();
        self.write_these(transactions)
    }

    /// Extends the log by the given transactions.
    pub fn write_these(&mut self, transactions: Vec<Transaction>) -> SessionContent {
        let after = self.log.len() as u64;
        for transaction in &transactions {
            self.chain.append(transaction.json());
        }
        self.log.extend(transactions.iter().cloned());
        SessionContent {
            session: self.session.clone(),
            after,
            transactions,
            last_signature: self.signature(),
        }
    }

    /// The transaction that deletes a CoValue.
    pub fn delete(&mut self, id: CoValueId) -> SessionContent {
        let meta = format!(r#"{{"deleted":"{id}"}}"#);
        self.write_these(vec![Transaction::trusting("[]", 1_700_000_000_000, Some(&meta))])
    }

    /// The signature of the log in its current state.
    pub fn signature(&self) -> Signature {
        self.secret.signer_secret().sign_chain(&self.chain)
    }

    /// The number of transactions in the log.
    pub fn count(&self) -> u64 {
        self.log.len() as u64
    }

    /// Checks that the runs are the author's log from `position` on, and that the signature of each
    /// verifies. Returns the position after the last run.
    pub(crate) fn check(&self, mut position: u64, runs: &[SessionContent]) -> u64 {
        for run in runs {
            assert_eq!(run.session, self.session);
            assert_eq!(run.after, position, "a run begins where the one before ended");
            assert!(!run.transactions.is_empty(), "a run is not empty");
            position = run.end();
            let (start, end) = (to_usize(run.after), to_usize(position));
            assert!(end <= self.log.len(), "a run is not longer than the log");
            assert!(run.transactions == self.log[start..end], "the transactions are the author's");
            self.verify(end, &run.last_signature);
        }
        position
    }

    fn verify(&self, count: usize, signature: &Signature) {
        let mut chain = HashChain::new();
        for transaction in &self.log[..count] {
            chain.append(transaction.json());
        }
        VerifyingKey::new(self.secret.agent().signer())
            .expect("an agent's key is a key")
            .verify_chain(&chain, signature)
            .expect("the signature is the one of this position");
    }
}

fn secret(number: u64) -> AgentSecret {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    AgentSecret::from_secret_seed(&seed)
}

pub(crate) fn to_usize(count: u64) -> usize {
    usize::try_from(count).expect("counts of a test fit into memory")
}

/// Appends one write, which must be stored in full.
pub(crate) async fn append(store: &Store, write: Write) {
    append_all(store, vec![write]).await;
}

/// Appends a batch, which must be stored in full.
pub(crate) async fn append_all(store: &Store, batch: Vec<Write>) {
    let sizes: Vec<usize> = batch
        .iter()
        .map(|write| match write {
            Write::Append { sessions, .. } => sessions.len(),
            Write::Tombstone { .. } => 1,
        })
        .collect();
    let outcomes = store.append(batch).await.unwrap();
    let expected: Vec<_> = sizes
        .into_iter()
        .map(|size| Outcome::Applied(vec![SessionOutcome::Applied; size]))
        .collect();
    assert_eq!(outcomes, expected);
}

/// Appends one write and returns its outcome.
pub(crate) async fn append_one(store: &Store, write: Write) -> Outcome {
    let mut outcomes = store.append(vec![write]).await.unwrap();
    assert_eq!(outcomes.len(), 1, "one outcome per write");
    outcomes.remove(0)
}

/// Loads a CoValue that must be stored.
pub(crate) async fn load(store: &Store, id: CoValueId) -> StoredCoValue {
    store.load(id).await.unwrap().expect("the CoValue is stored")
}

/// Reads everything beyond `have` with one call.
pub(crate) async fn read_from(
    store: &Store,
    id: CoValueId,
    have: &SessionCounts,
) -> Vec<SessionContent> {
    store.read(id, have, ALL).await.unwrap()
}

/// Reads all content of a CoValue.
pub(crate) async fn read_all(store: &Store, id: CoValueId) -> Vec<SessionContent> {
    read_from(store, id, &SessionCounts::new()).await
}

/// Checks that a CoValue holds exactly the logs of these authors.
pub(crate) async fn assert_holds(store: &Store, id: CoValueId, authors: &[&Author]) {
    let mut authors = authors.to_vec();
    authors.sort_by(|a, b| a.session.cmp(&b.session));
    let stored = load(store, id).await;
    let heads: Vec<_> = stored
        .sessions
        .iter()
        .map(|stored| (stored.session.clone(), stored.count, stored.last_signature))
        .collect();
    let expected: Vec<_> = authors
        .iter()
        .map(|author| (author.session.clone(), author.count(), author.signature()))
        .collect();
    assert_eq!(heads, expected);
    let runs = read_all(store, id).await;
    let mut runs = runs.as_slice();
    for author in authors {
        let here = runs.iter().take_while(|run| run.session == author.session).count();
        let (log, rest) = runs.split_at(here);
        assert_eq!(author.check(0, log), author.count(), "the whole log is read");
        runs = rest;
    }
    assert!(runs.is_empty(), "nothing else is read");
}

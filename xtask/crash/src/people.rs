//! The keys, accounts and sessions of authors, and the headers of their CoValues.

use downbeat_core::delete;
use downbeat_crypto::{AgentSecret, delete_session_id, header_id, session_id};
use downbeat_protocol::{CoValueId, Header, Owner, Ruleset, SessionId, Transaction, Uniqueness};

/// Sessions of each person, like those of several devices.
const SESSIONS: u8 = 3;

/// The time of all transactions, in milliseconds since the Unix epoch.
const NOW: u64 = 1_700_000_000_000;

/// The owner of a key, an account and several sessions.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) secret: AgentSecret,
    pub(crate) account: Header,
    pub(crate) sessions: Vec<SessionId>,
    owner: Owner,
}

impl Person {
    /// The person with this number. Equal seeds and numbers give equal persons.
    pub(crate) fn new(seed: u64, number: u8) -> Self {
        let mut secret_seed = [number; 32];
        secret_seed[..8].copy_from_slice(&seed.to_le_bytes());
        let secret = AgentSecret::from_secret_seed(&secret_seed);
        let account = Header::account(&secret.agent());
        let owner = Owner::Account(header_id(&account));
        let session = |session| session_id(&owner, [number, session, 1, 2, 3, 4, 5, 6]);
        Self { secret, account, sessions: (0..SESSIONS).map(session).collect(), owner }
    }

    /// A group, and the transaction that makes this person its admin.
    pub(crate) fn group(&self, random: u64) -> (Header, Transaction) {
        let ruleset = Ruleset::Group { initial_admin: self.owner.clone() };
        (header(ruleset, random), set(self.owner.as_str(), "admin"))
    }

    /// A delete session.
    pub(crate) fn delete_session(&self, random: u64) -> SessionId {
        let [bytes @ .., _] = random.to_le_bytes();
        delete_session_id(&self.owner, bytes)
    }
}

/// A map with a group as its owner, or without an owner.
pub(crate) fn map(group: Option<CoValueId>, random: u64) -> Header {
    let ruleset = group.map_or(Ruleset::UnsafeAllowAll, |group| Ruleset::OwnedByGroup { group });
    header(ruleset, random)
}

/// A transaction that sets a key.
pub(crate) fn set(key: &str, value: &str) -> Transaction {
    let changes = format!(r#"[{{"key":"{key}","op":"set","value":"{value}"}}]"#);
    Transaction::trusting(&changes, NOW, None)
}

/// The transaction that deletes a CoValue.
pub(crate) fn deletion(id: CoValueId) -> Transaction {
    delete::transaction(id, NOW + 1)
}

fn header(ruleset: Ruleset, random: u64) -> Header {
    let mut unique = [0; 12];
    unique[..8].copy_from_slice(&random.to_le_bytes());
    Header::builder("comap", ruleset)
        .uniqueness(Uniqueness::from_bytes(unique))
        .build()
        .expect("these headers are well formed")
}

//! The authors: their keys, accounts and sessions, and the headers of their CoValues.

use downbeat_crypto::{AgentSecret, delete_session_id, header_id, session_id};
use downbeat_protocol::{CoValueId, Header, Owner, Ruleset, SessionId, Uniqueness};

/// The start of the simulated time, in milliseconds since the Unix epoch.
pub(crate) const EPOCH: u64 = 1_700_000_000_000;

/// An author with a key and an account.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub secret: AgentSecret,
    pub account: CoValueId,
    pub account_header: Header,
    /// Whether this person's sessions belong to the account. Otherwise they belong to the agent.
    pub by_account: bool,
}

impl Person {
    pub(crate) fn new(number: u8, by_account: bool) -> Self {
        let secret = AgentSecret::from_secret_seed(&[number; 32]);
        let account_header = Header::account(&secret.agent());
        let account = header_id(&account_header);
        Self { secret, account, account_header, by_account }
    }

    fn owner(&self) -> Owner {
        if self.by_account {
            Owner::Account(self.account)
        } else {
            Owner::Agent(self.secret.agent())
        }
    }

    /// An ordinary session.
    pub(crate) fn session(&self, number: u8) -> SessionId {
        session_id(&self.owner(), [number; 8])
    }

    /// A session of the account, for writing to groups and accounts.
    pub(crate) fn account_session(&self, number: u8) -> SessionId {
        session_id(&Owner::Account(self.account), [number; 8])
    }

    /// A delete session.
    pub(crate) fn delete_session(&self, number: u8) -> SessionId {
        delete_session_id(&Owner::Account(self.account), [number; 7])
    }
}

fn header(co_type: &str, ruleset: Ruleset, meta: &str, number: u64) -> Header {
    let mut random = [0; 12];
    random[..8].copy_from_slice(&number.to_be_bytes());
    Header::builder(co_type, ruleset)
        .meta(meta)
        .uniqueness(Uniqueness::from_bytes(random))
        .build()
        .expect("the simulation's headers are well formed")
}

/// A map that every client may write to.
pub(crate) fn free_map(number: u64) -> Header {
    header("comap", Ruleset::UnsafeAllowAll, "null", number)
}

/// A binary stream that every client may write to.
pub(crate) fn file(number: u64) -> Header {
    header("costream", Ruleset::UnsafeAllowAll, r#"{"type":"binary"}"#, number)
}

/// A group with its first admin.
pub(crate) fn group(number: u64, admin: CoValueId) -> Header {
    header("comap", Ruleset::Group { initial_admin: Owner::Account(admin) }, "null", number)
}

/// A map that a group owns.
pub(crate) fn owned_map(number: u64, group: CoValueId) -> Header {
    header("comap", Ruleset::OwnedByGroup { group }, "null", number)
}

/// The changes that set keys of a group.
pub(crate) fn group_changes(keys: &[(String, &str)]) -> String {
    let changes: Vec<String> = keys
        .iter()
        .map(|(key, value)| format!(r#"{{"key":"{key}","op":"set","value":"{value}"}}"#))
        .collect();
    format!("[{}]", changes.join(","))
}

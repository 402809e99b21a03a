//! Two authors with known secrets, so that mutated content can be signed again.

use std::sync::LazyLock;

use downbeat_core::Directory;
use downbeat_core::delete::{Claim, DeleteError};
use downbeat_crypto::{AgentSecret, SignerSecret, header_id, session_id};
use downbeat_protocol::{AgentId, CoValueId, Header, Owner, SessionId};

static PEOPLE: LazyLock<[Person; 2]> =
    LazyLock::new(|| [Person::new([1; 32]), Person::new([2; 32])]);

/// An author with an agent and an account.
#[derive(Clone)]
pub(crate) struct Person {
    secret: std::sync::Arc<AgentSecret>,
    account: Header,
    account_id: CoValueId,
}

impl Person {
    fn new(seed: [u8; 32]) -> Self {
        let secret = AgentSecret::from_secret_seed(&seed);
        let account = Header::account(&secret.agent());
        let account_id = header_id(&account);
        Self { secret: secret.into(), account, account_id }
    }

    pub(crate) fn secret(&self) -> &AgentSecret {
        &self.secret
    }

    pub(crate) fn account(&self) -> Header {
        self.account.clone()
    }

    pub(crate) fn account_id(&self) -> CoValueId {
        self.account_id
    }

    /// One of the account's sessions.
    pub(crate) fn session(&self, number: u8) -> SessionId {
        session_id(&Owner::Account(self.account_id), [number; 8])
    }

    /// One of the agent's sessions.
    pub(crate) fn agent_session(&self, number: u8) -> SessionId {
        session_id(&Owner::Agent(self.secret.agent()), [number; 8])
    }
}

pub(crate) fn alice() -> Person {
    PEOPLE[0].clone()
}

pub(crate) fn bob() -> Person {
    PEOPLE[1].clone()
}

/// The secret of an account or agent, if it belongs to one of the two authors.
pub(crate) fn signer_of(owner: &Owner) -> Option<&'static SignerSecret> {
    let person = PEOPLE.iter().find(|person| match owner {
        Owner::Account(account) => *account == person.account_id,
        Owner::Agent(agent) => *agent == person.secret.agent(),
    })?;
    Some(person.secret.signer_secret())
}

/// A directory of the two accounts, in which only Alice may delete.
pub(crate) struct Accounts;

impl Directory for Accounts {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        PEOPLE
            .iter()
            .find(|person| person.account_id == account)
            .map(|person| person.secret.agent())
    }

    fn may_delete(&self, claim: &Claim) -> Result<(), DeleteError> {
        if claim.author == Owner::Account(alice().account_id) {
            Ok(())
        } else {
            Err(DeleteError::NotAdmin(None))
        }
    }
}

//! Whether a connection has shown that a listed account is behind it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use downbeat_crypto::{HashChain, VerifyingKey};
use downbeat_protocol::{AgentId, CoValueId, Content, Owner, SessionContent};

use super::{Gate, Reason};

/// CoValues without transactions that wait until their sender has shown who it is. A client makes
/// them before the content that refers to them.
const MAX_PARKED: usize = 256;

/// CoValues that content of one connection may need before it has shown who it is: the members of
/// a group that its first transaction adds.
const MAX_UNPROVEN_NEEDS: usize = 64;

/// What a connection has shown: content of a listed account that was verified, and was not here.
#[derive(Default)]
pub(crate) struct Proof {
    state: Mutex<State>,
    needs: AtomicUsize,
}

#[derive(Default)]
struct State {
    is_given: bool,
    parked: Vec<Content>,
}

impl Proof {
    pub(crate) fn is_given(&self) -> bool {
        self.state().is_given
    }

    /// Content of a listed account has been verified. Returns what waited for that.
    pub(super) fn give(&self) -> Vec<Content> {
        let mut state = self.state();
        state.is_given = true;
        std::mem::take(&mut state.parked)
    }

    /// Returns what waits for the proof, which will not be given any more.
    pub(super) fn end(&self) -> Vec<Content> {
        std::mem::take(&mut self.state().parked)
    }

    /// Keeps content until the proof is given. Gives it back if it has been, or the content that
    /// has waited longest if there is too much.
    pub(crate) fn park(&self, content: Content) -> Parked {
        let mut state = self.state();
        if state.is_given {
            return Parked::NotNeeded(content);
        }
        state.parked.retain(|other| other.id != content.id);
        state.parked.push(content);
        if state.parked.len() > MAX_PARKED {
            Parked::Displaced(state.parked.remove(0))
        } else {
            Parked::Kept
        }
    }

    /// Of what content needs, as much as is believed without proof.
    pub(super) fn bound(&self, mut needs: Vec<CoValueId>) -> Vec<CoValueId> {
        let used = self.needs.fetch_add(needs.len(), Ordering::Relaxed);
        needs.truncate(MAX_UNPROVEN_NEEDS.saturating_sub(used));
        needs
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of content that was to wait.
pub(crate) enum Parked {
    /// It waits.
    Kept,
    /// It waits, and this does not any longer.
    Displaced(Content),
    /// It need not wait.
    NotNeeded(Content),
}

impl Gate {
    /// Whether the first run of a new CoValue has the signature of the account that it claims to
    /// be of, as far as that can be told: an account that is not here yet is waited for by the
    /// machine.
    pub(super) async fn is_signed(&self, run: &SessionContent) -> Result<(), Reason> {
        if run.after > 0 {
            return Err(Reason::BadSignature);
        }
        let agent = match run.session.owner() {
            Owner::Agent(agent) => Some(agent.clone()),
            Owner::Account(account) => self.agent_of(*account).await,
        };
        let Some(agent) = agent else { return Ok(()) };
        let mut chain = HashChain::new();
        for transaction in &run.transactions {
            chain.append(transaction.json());
        }
        let key = VerifyingKey::new(agent.signer()).map_err(|_| Reason::BadSignature)?;
        key.verify_chain(&chain, &run.last_signature).map_err(|_| Reason::BadSignature)
    }

    async fn agent_of(&self, account: CoValueId) -> Option<AgentId> {
        let known = self.memory().agents.get(&account).cloned();
        if known.is_some() {
            return known;
        }
        let stored = self.stored(account).await?;
        stored.header.account_agent().cloned()
    }
}

//! Content that waits until its sender has shown that a listed account sends it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use downbeat_crypto::{HashChain, VerifyingKey};
use downbeat_protocol::{AgentId, CoValueId, Content, Owner, SessionContent};
use downbeat_sync::cost::content_credit;

use super::{ContentPolicy, Reason};
use crate::link::Link;
use crate::proof::Parked;

impl ContentPolicy {
    /// Keeps content, whose credit has been taken, until its sender has given its proof.
    pub(crate) fn park(&self, link: &Link, content: Content) -> Parked {
        let listed = self.listed().unwrap_or_default();
        let replaced = |older: &Content| {
            self.unpark(older);
            link.credit.release(content_credit(older));
        };
        let parked =
            link.proof.park(content, &listed, replaced, |bytes| self.has_room_to_park(bytes));
        if let Parked::TooMuch(content) = &parked {
            self.refuse(link, content.id, None, Reason::NotWanted);
        }
        parked
    }

    /// Whether anything waits for a proof.
    pub(crate) fn has_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed) > 0
    }

    /// Refuses what has waited for too long, gives its credit back, and returns its CoValues.
    pub(crate) fn expire(&self, link: &Link) -> Vec<CoValueId> {
        let expired = link.proof.expire(Instant::now());
        let expired = expired.into_iter().map(|content| {
            self.unpark(&content);
            link.credit.release(content_credit(&content));
            self.refuse(link, content.id, None, Reason::NotWanted);
            content.id
        });
        expired.collect()
    }

    /// What waited, now that the proof has been given.
    pub(super) fn given(&self, link: &Link, account: CoValueId) -> Vec<Content> {
        let contents = link.proof.give(account);
        for content in &contents {
            self.unpark(content);
        }
        contents
    }

    /// What waited for a proof that will not be given any more.
    pub(super) fn ended(&self, link: &Link) -> Vec<Content> {
        let contents = link.proof.end();
        for content in &contents {
            self.unpark(content);
        }
        contents
    }

    fn has_room_to_park(&self, bytes: u64) -> bool {
        let room = self.parked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |parked| {
            Some(parked.saturating_add(bytes)).filter(|sum| *sum <= self.max_parked)
        });
        room.is_ok()
    }

    fn unpark(&self, content: &Content) {
        self.parked.fetch_sub(content_credit(content), Ordering::Relaxed);
    }

    /// Checks that the first run of a new CoValue has the signature of the account that it claims.
    /// Accepts the run if the account is not here yet: the machine waits for the account.
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

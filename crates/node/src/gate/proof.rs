//! Whether a connection has shown that a listed account is behind it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use downbeat_crypto::{HashChain, VerifyingKey};
use downbeat_protocol::{AgentId, CoValueId, Content, Owner, SessionContent};
use downbeat_sync::content_credit;

use super::{Gate, Reason};
use crate::connection::{Link, PEER_CREDIT};

/// CoValues without transactions that wait until their sender has shown who it is. A client makes
/// them before the content that refers to them.
const MAX_PARKED: usize = 256;

/// Bytes of what waits from one connection: so little of its credit that the rest goes on.
const MAX_PARKED_BYTES: u64 = 2 << 20;
const _: () = assert!(MAX_PARKED_BYTES < PEER_CREDIT.unsigned_abs());

/// Bytes of what waits from all connections: that of a hundred that come at the same time, each
/// with an application's usual share of it, many times over.
const MAX_PARKED_OF_ALL: u64 = 64 << 20;

/// How long content waits. The content that refers to it comes right after it.
const PARKED_TIME: Duration = Duration::from_secs(30);

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
    /// The listed account whose content was verified last. Whether it is still listed is looked up
    /// each time.
    given: Option<CoValueId>,
    parked: VecDeque<(Instant, Content)>,
    /// The credit of what is parked, in bytes.
    bytes: u64,
}

impl State {
    /// Makes room for newer content of the same CoValue.
    fn take(&mut self, id: CoValueId) -> Option<Content> {
        let at = self.parked.iter().position(|(_, content)| content.id == id)?;
        let (_, content) = self.parked.remove(at)?;
        self.bytes = self.bytes.saturating_sub(content_credit(&content));
        Some(content)
    }

    fn take_all(&mut self) -> Vec<Content> {
        self.bytes = 0;
        std::mem::take(&mut self.parked).into_iter().map(|(_, content)| content).collect()
    }
}

impl Proof {
    /// The account that is behind the connection, as long as it is listed.
    pub(super) fn account(&self, listed: &BTreeSet<CoValueId>) -> Option<CoValueId> {
        self.state().given.filter(|account| listed.contains(account))
    }

    pub(super) fn is_given(&self, listed: &BTreeSet<CoValueId>) -> bool {
        self.account(listed).is_some()
    }

    /// Content of a listed account has been verified. Returns what waited for that.
    fn give(&self, account: CoValueId) -> Vec<Content> {
        let mut state = self.state();
        state.given = Some(account);
        state.take_all()
    }

    /// Returns what waits for the proof, which will not be given any more.
    fn end(&self) -> Vec<Content> {
        self.state().take_all()
    }

    /// Returns what has waited for too long.
    fn expire(&self, now: Instant) -> Vec<Content> {
        let mut state = self.state();
        let mut expired = Vec::new();
        while let Some((since, _)) = state.parked.front()
            && now.saturating_duration_since(*since) >= PARKED_TIME
            && let Some((_, content)) = state.parked.pop_front()
        {
            state.bytes = state.bytes.saturating_sub(content_credit(&content));
            expired.push(content);
        }
        expired
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
    /// Too much waits already.
    TooMuch(Content),
    /// It need not wait.
    NotNeeded(Content),
}

impl Gate {
    /// Keeps content, whose credit has been taken, until its sender has given its proof.
    pub(crate) fn park(&self, link: &Link, content: Content) -> Parked {
        let listed = self.listed().unwrap_or_default();
        let mut state = link.proof.state();
        if state.given.is_some_and(|account| listed.contains(&account)) {
            return Parked::NotNeeded(content);
        }
        if let Some(older) = state.take(content.id) {
            self.unpark(&older);
            link.credit.release(content_credit(&older));
        }
        let bytes = content_credit(&content);
        let is_too_much = state.parked.len() >= MAX_PARKED
            || state.bytes.saturating_add(bytes) > MAX_PARKED_BYTES;
        if is_too_much || !self.has_room_to_park(bytes) {
            self.refuse(link, content.id, None, Reason::NotWanted);
            return Parked::TooMuch(content);
        }
        state.bytes += bytes;
        state.parked.push_back((Instant::now(), content));
        Parked::Kept
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
            Some(parked.saturating_add(bytes)).filter(|sum| *sum <= MAX_PARKED_OF_ALL)
        });
        room.is_ok()
    }

    fn unpark(&self, content: &Content) {
        self.parked.fetch_sub(content_credit(content), Ordering::Relaxed);
    }

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

#[cfg(test)]
mod tests {
    use downbeat_protocol::{Header, Priority, Ruleset};

    use super::*;

    #[test]
    fn what_waits_for_too_long_is_given_back() {
        let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
        let content = |id: &str| Content {
            id: CoValueId::parse(id).unwrap(),
            header: Some(header.clone()),
            priority: Priority::Medium,
            sessions: Vec::new(),
            malformed: Vec::new(),
            expect_content_until: None,
        };
        let (proof, now) = (Proof::default(), Instant::now());
        let later = now + PARKED_TIME / 2;
        let (first, second) = (content("co_z1"), content("co_z2"));
        let bytes = content_credit(&first);
        {
            let mut state = proof.state();
            state.bytes = 2 * bytes;
            state.parked.extend([(now, first.clone()), (later, second)]);
        }
        assert!(proof.expire(later).is_empty());
        assert_eq!(proof.expire(now + PARKED_TIME), [first]);
        assert_eq!(proof.state().bytes, bytes);
    }
}

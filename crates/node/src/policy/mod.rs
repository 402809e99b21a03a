//! Decides which incoming content is accepted: content within the quotas, and where only some
//! accounts may store content, the content that concerns these accounts.
//!
//! `docs/access.md` explains the rules. The policy is applied before the machine, in the tasks that
//! read from connections: it removes sessions from a message, or refuses the whole message. It
//! relies on the author that a session *claims*; the machine has the claim verified afterwards.

mod memory;
mod parking;
mod quota;
mod refused;
mod upstream;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use downbeat_core::dependencies;
use downbeat_core::roles::Member;
use downbeat_crypto::header_id;
use downbeat_driver::{ContentStore, load_family};
use downbeat_protocol::{CoValueId, Content, Header, Owner, Ruleset, SessionContent, SessionId};
use downbeat_storage::{StorageError, StoredCoValue};
use downbeat_sync::StoreJob;
use downbeat_sync::cost::content_credit;

use self::memory::Memory;
use self::quota::Room;
use self::refused::bytes_of;
use crate::access::{Access, account_of};
use crate::failure::retry;
use crate::link::{Kind, Link};
use crate::proof::Proof;
use crate::stats::{Counters, add};
use crate::usage::Usage;

/// Bytes that accounts which are not listed may store, since the start of the node, in one CoValue
/// that listed ones need: the history of a large group.
const MAX_OTHERS_BYTES: u64 = 1 << 20;

/// The same while no listed account is proven to need the content: an
/// account with its keys and profile.
const MAX_UNPROVEN_BYTES: u64 = 16 << 10;

/// The largest header of a CoValue of listed accounts, in bytes of JSON. Those that applications
/// make have some hundred.
const MAX_HEADER_BYTES: usize = 4 << 10;

/// The part of the credit of all peers that may wait for a proof, as a divisor: most of the credit is
/// for content that is being stored.
const PARKED_PART: u64 = 4;

/// What becomes of content.
pub(crate) enum Verdict {
    /// The machine gets this.
    Take(Content),
    /// The machine is told that there was some.
    Refuse,
    /// The machine gets it when its sender has shown who it is.
    Park(Content),
}

/// Why something is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    NotListed(CoValueId),
    TooMuchOfOthers,
    NotWanted,
    HeaderMismatch,
    HeaderTooLarge,
    BadSignature,
    AccountQuota(CoValueId),
    KeyQuota,
}

/// Decides what is let in.
pub(crate) struct ContentPolicy {
    access: Access,
    content: ContentStore,
    usage: Arc<Usage>,
    counters: Arc<Counters>,
    memory: Mutex<Memory>,
    /// The credit of what waits for a proof, in bytes.
    parked: AtomicU64,
    /// The bound of that, over all connections.
    max_parked: u64,
}

impl ContentPolicy {
    pub(crate) fn new(
        access: Access,
        content: ContentStore,
        usage: Arc<Usage>,
        counters: Arc<Counters>,
        credit_bytes: u64,
    ) -> Self {
        Self {
            access,
            content,
            usage,
            counters,
            memory: Mutex::default(),
            parked: AtomicU64::new(0),
            max_parked: credit_bytes / PARKED_PART,
        }
    }

    /// What becomes of content that a peer has sent. The sessions that are taken out of it are
    /// added to `refused`.
    pub(crate) async fn content(
        &self,
        link: &Link,
        content: Content,
        refused: &mut Vec<SessionId>,
    ) -> Verdict {
        if matches!(link.kind, Kind::Local(_)) {
            return Verdict::Take(content);
        }
        let content = match self.within_key_quota(link, content, refused).await {
            Ok(content) => content,
            Err(verdict) => return verdict,
        };
        let Some(listed) = self.listed() else { return Verdict::Take(content) };
        // All that follows goes by what a header says of its CoValue, and is remembered.
        if content.header.as_ref().is_some_and(|header| header_id(header) != content.id) {
            self.refuse(link, content.id, None, Reason::HeaderMismatch);
            return Verdict::Refuse;
        }
        match &link.kind {
            Kind::Upstream(_) => self.of_upstream(&listed, link, content).await,
            Kind::Client | Kind::Local(_) => self.of_client(&listed, link, content, refused).await,
        }
    }

    /// Whether a CoValue that a client asks for is not wanted here, so that no upstream is asked.
    pub(crate) fn is_unwanted(&self, link: &Link, id: CoValueId) -> bool {
        matches!(link.kind, Kind::Client)
            && self.listed().is_some()
            && self.memory().is_unwanted(id)
    }

    /// Content is verified, and about to be stored. Returns what its sender has sent before, and
    /// may be taken now.
    pub(crate) fn verified(&self, link: &Link, job: &StoreJob) -> Vec<Content> {
        let Some(listed) = self.listed() else { return Vec::new() };
        match job.sessions.iter().find(|run| is_of(&listed, run)) {
            Some(run) => self.given(link, account_of(run.session.owner())),
            None => Vec::new(),
        }
    }

    /// The account for which a new header is stored, beside its own content.
    pub(crate) fn account_behind(&self, link: &Link) -> Option<CoValueId> {
        link.proof.account(&*self.listed()?)
    }

    /// Content of a client is verified, and about to be stored. What is only claimed to be an
    /// account's takes no room from them.
    pub(crate) fn count_others(&self, job: &StoreJob) {
        let Some(listed) = self.listed() else { return };
        let others =
            job.sessions.iter().filter(|run| !is_of(&listed, run)).map(SessionContent::json_len);
        let others: u64 = others.sum();
        if others > 0 {
            let mut memory = self.memory();
            let before = memory.others.get(&job.id).copied().unwrap_or_default();
            memory.others.insert(job.id, before.saturating_add(others));
        }
    }

    /// A peer has left. What it did not show to be a listed account's is refused.
    pub(crate) fn left(&self, link: &Link) {
        for content in self.ended(link) {
            link.credit.release(content_credit(&content));
            self.refuse(link, content.id, None, Reason::NotWanted);
        }
    }

    /// Takes the sessions out of a message that may not be stored.
    fn take_out(&self, mut room: Room<'_>, content: &mut Content) -> Vec<(SessionId, Reason)> {
        let (mut refused, id) = (Vec::new(), content.id);
        content.sessions.retain(|run| {
            let reason = self.may_store(&mut room, id, run);
            let Err(reason) = reason else { return true };
            refused.push((run.session.clone(), reason));
            false
        });
        refused
    }

    async fn of_client(
        &self,
        listed: &Arc<BTreeSet<CoValueId>>,
        link: &Link,
        mut content: Content,
        refused: &mut Vec<SessionId>,
    ) -> Verdict {
        let id = content.id;
        let bytes = bytes_of(&content);
        let has_others = content.sessions.iter().any(|run| !is_of(listed, run));
        let is_proven = link.proof.is_given(listed);
        let others =
            if has_others { self.room_for_others(listed, &content, is_proven).await } else { 0 };
        let room = self.room(listed, &content, others).await;
        let taken_out = self.take_out(room, &mut content);
        let is_whole = taken_out.is_empty();
        for (session, reason) in taken_out {
            self.refuse(link, id, Some(session.to_string()), reason);
            let sessions = std::slice::from_ref(&session);
            self.remember_refused(link, &content, bytes, reason, sessions, false);
            refused.push(session);
        }
        if content.header.is_some() && !self.is_here(id).await {
            match self.new_value(listed, link, &content, is_whole).await {
                Ok(true) => {}
                Ok(false) => return Verdict::Park(content),
                Err(reason) => {
                    self.refuse(link, id, None, reason);
                    self.remember_refused(link, &content, bytes, reason, &[], true);
                    return Verdict::Refuse;
                }
            }
        }
        self.let_in(listed, &content);
        if content.sessions.iter().any(|run| is_of(listed, run)) {
            self.need(listed, needs_of(&content), (!is_proven).then_some(&link.proof));
        }
        Verdict::Take(content)
    }

    /// Whether a CoValue that is not here may be made by a client: `false` if only when the client
    /// has shown who it is.
    async fn new_value(
        &self,
        listed: &BTreeSet<CoValueId>,
        link: &Link,
        content: &Content,
        is_whole: bool,
    ) -> Result<bool, Reason> {
        let Some(header) = &content.header else { return Ok(true) };
        if header.json().len() > MAX_HEADER_BYTES {
            return Err(Reason::HeaderTooLarge);
        }
        let is_proven = link.proof.is_given(listed);
        // Without a proof only accounts and groups may be needed: members and parents.
        if (is_proven || header.is_group()) && self.memory().needed.contains(&content.id) {
            return Ok(true);
        }
        if header.account_agent().is_some() {
            return if listed.contains(&content.id) { Ok(true) } else { Err(Reason::NotWanted) };
        }
        match content.sessions.iter().find(|run| is_of(listed, run)) {
            Some(_) if is_proven => Ok(true),
            Some(run) => self.is_signed(run).await.map(|()| true),
            None if !is_whole => Err(Reason::NotWanted),
            // It has no content yet, so it counts as its sender's.
            None => match header.ruleset() {
                Ruleset::Group { initial_admin }
                    if !listed.contains(&account_of(initial_admin)) =>
                {
                    Err(Reason::NotWanted)
                }
                _ => match link.proof.account(listed) {
                    Some(account) if self.is_over_quota(account, header.json().len() as u64) => {
                        Err(Reason::AccountQuota(account))
                    }
                    proven => Ok(proven.is_some()),
                },
            },
        }
    }

    /// Bytes that may be stored in a CoValue of those who are not listed.
    async fn room_for_others(
        &self,
        listed: &BTreeSet<CoValueId>,
        content: &Content,
        is_proven: bool,
    ) -> u64 {
        let id = content.id;
        let is_needed = self.memory().needed.contains(&id);
        let is_ours = is_needed || self.is_group_of(listed, id, content.header.as_ref()).await;
        let bound = match (is_ours, is_needed && !is_proven) {
            (false, _) => return 0,
            (true, true) => MAX_UNPROVEN_BYTES,
            (true, false) => MAX_OTHERS_BYTES,
        };
        bound.saturating_sub(self.memory().others.get(&id).copied().unwrap_or_default())
    }

    /// Whether a CoValue is a group, no account, in which a listed account has a role.
    async fn is_group_of(
        &self,
        listed: &BTreeSet<CoValueId>,
        id: CoValueId,
        header: Option<&Header>,
    ) -> bool {
        let known = self.memory().standing(id);
        if let Some(is_ours) = known {
            return is_ours;
        }
        let header = match header {
            Some(header) => Some(header.clone()),
            None => self.stored(id).await.map(|stored| stored.header),
        };
        let is_ours = match header.as_ref().map(|header| (header, header.ruleset())) {
            Some((header, Ruleset::Group { initial_admin }))
                if header.account_agent().is_none() =>
            {
                listed.contains(&account_of(initial_admin)) || self.gives_role(listed, id).await
            }
            _ => false,
        };
        self.memory().set_standing(id, is_ours);
        is_ours
    }

    /// Whether the group, as it is stored, gives a listed account a role.
    async fn gives_role(&self, listed: &BTreeSet<CoValueId>, group: CoValueId) -> bool {
        let family = self.ask(|| load_family(&self.content, group)).await;
        let Some(mut family) = family.flatten() else { return false };
        family.named.intersection(listed).any(|account| {
            let member = Member::from(Owner::Account(*account));
            matches!(family.roles.role_of(group, &member, None), Ok(Some(_)))
        })
    }

    /// Content that passes needs these; as many of them as are believed where a proof is missing.
    fn need(&self, listed: &BTreeSet<CoValueId>, mut ids: Vec<CoValueId>, proof: Option<&Proof>) {
        let mut memory = self.memory();
        let is_new = |id: &CoValueId, memory: &mut Memory| {
            !listed.contains(id) && !memory.here.contains(id) && !memory.needed.contains(id)
        };
        ids.retain(|id| is_new(id, &mut memory));
        memory.need(match proof {
            Some(proof) => proof.bound(ids),
            None => ids,
        });
    }

    /// Something passes the policy.
    fn let_in(&self, listed: &Arc<BTreeSet<CoValueId>>, content: &Content) {
        let mut memory = self.memory();
        memory.is_for(listed);
        let agent = content.header.as_ref().and_then(Header::account_agent);
        if let Some(agent) = agent.filter(|_| listed.contains(&content.id)) {
            memory.agents.insert(content.id, agent.clone());
        }
    }

    async fn is_here(&self, id: CoValueId) -> bool {
        if self.memory().here.contains(&id) {
            return true;
        }
        let is_stored = self.stored(id).await.is_some();
        if is_stored {
            self.memory().here.insert(id, ());
        }
        is_stored
    }

    async fn stored(&self, id: CoValueId) -> Option<StoredCoValue> {
        self.ask(|| self.content.storage().load(id)).await.flatten()
    }

    /// Asks storage until it answers. `None` if the stored data is damaged.
    async fn ask<T, F>(&self, question: impl FnMut() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        let what = "storage could not tell whether content may be taken";
        retry(what, &self.counters, question).await
    }

    fn refuse(&self, link: &Link, id: CoValueId, session: Option<String>, reason: Reason) {
        let (rejections, limits) = (&self.counters.rejections, &self.counters.limits);
        let (cell, name, detail) = match reason {
            Reason::NotListed(account) => {
                let detail = format!("{account} may not store content here");
                (&rejections.not_allowed, "not_allowed", detail)
            }
            Reason::TooMuchOfOthers => {
                let detail = "more content of accounts that may not store any than is needed";
                (&rejections.not_allowed, "not_allowed", detail.to_owned())
            }
            Reason::BadSignature => {
                let detail = "the signature is not that of the account that is named";
                (&rejections.bad_signature, "bad_signature", detail.to_owned())
            }
            Reason::NotWanted => {
                let detail = "no account that may store content here has to do with it";
                (&rejections.not_wanted, "not_wanted", detail.to_owned())
            }
            Reason::HeaderMismatch => {
                let detail = "its header is that of another CoValue";
                (&rejections.header_mismatch, "header_mismatch", detail.to_owned())
            }
            Reason::HeaderTooLarge => {
                let detail = format!("its header has more than {MAX_HEADER_BYTES} bytes");
                (&rejections.not_wanted, "not_wanted", detail)
            }
            Reason::AccountQuota(account) => {
                add(&limits.account_quota, 1);
                let detail = format!("{account} has stored as much as it may");
                (&rejections.over_quota, "over_quota", detail)
            }
            Reason::KeyQuota => {
                add(&limits.key_quota, 1);
                let detail = "as much is stored for the access key as may be";
                (&rejections.over_quota, "over_quota", detail.to_owned())
            }
        };
        add(cell, 1);
        if matches!(reason, Reason::BadSignature | Reason::HeaderMismatch) {
            link.strike(limits, &detail);
        }
        if !self.memory().is_news(id, name) {
            return;
        }
        self.counters.tell(&link.info, Some(id), session, name, detail);
    }

    /// The accounts that may store content, unless all accounts may.
    fn listed(&self) -> Option<Arc<BTreeSet<CoValueId>>> {
        match &self.access {
            Access::Open => None,
            Access::Accounts { accounts, .. } => {
                let listed = accounts.snapshot();
                self.memory().is_for(&listed);
                Some(listed)
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Whatever is in there is only remembered, and found out again where it is missing.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a listed account claims to have written a run.
fn is_of(listed: &BTreeSet<CoValueId>, run: &SessionContent) -> bool {
    listed.contains(&account_of(run.session.owner()))
}

/// What content depends on, where it is not known whether it is that of a group.
fn needs_of(content: &Content) -> Vec<CoValueId> {
    let mut needs = content.header.as_ref().map(dependencies::of_header).unwrap_or_default();
    needs.extend(dependencies::of_sessions(content.sessions.iter().map(|run| &run.session)));
    let transactions = content.sessions.iter().flat_map(|run| &run.transactions);
    needs.extend(dependencies::of_group_transactions(transactions));
    needs.retain(|id| *id != content.id);
    needs
}

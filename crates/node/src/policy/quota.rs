//! Quotas of access keys and accounts, and what is taken beyond them.

use std::collections::{BTreeMap, BTreeSet};

use downbeat_core::delete;
use downbeat_protocol::{CoValueId, Content, Header, SessionContent, SessionId};

use super::refused::bytes_of;
use super::{ContentPolicy, Reason, Verdict};
use crate::access::{Access, account_of};
use crate::link::Link;

/// The largest deletion that is taken beyond a quota, in bytes. Those that applications make have
/// some hundred.
const MAX_DELETION_BYTES: u64 = 1 << 10;

/// What may be stored of one message.
pub(super) struct Room<'a> {
    pub listed: &'a BTreeSet<CoValueId>,
    /// Bytes of those who are not listed.
    pub others: u64,
    /// Bytes that are taken of each listed account, a new header among them.
    taken: BTreeMap<CoValueId, u64>,
    /// The header of the CoValue, if it may be deleted beyond a quota. One deletion takes it.
    deletable: Option<Header>,
}

impl ContentPolicy {
    pub(super) async fn room<'a>(
        &self,
        listed: &'a BTreeSet<CoValueId>,
        content: &Content,
        others: u64,
    ) -> Room<'a> {
        let deletable = self.deletable(content).await;
        let mut taken = BTreeMap::new();
        let authors = content.sessions.iter().map(|run| account_of(run.session.owner()));
        let account = authors.into_iter().find(|account| listed.contains(account));
        if let (Some(header), Some(account)) = (&content.header, account)
            && !self.is_here(content.id).await
        {
            taken.insert(account, header.json().len() as u64);
        }
        Room { listed, others, taken, deletable }
    }

    /// Whether a run of a message may be stored, besides those that were asked about before.
    pub(super) fn may_store(
        &self,
        room: &mut Room<'_>,
        id: CoValueId,
        run: &SessionContent,
    ) -> Result<(), Reason> {
        let (account, bytes) = (account_of(run.session.owner()), run.json_len());
        if room.listed.contains(&account) {
            let taken = room.taken.entry(account).or_default();
            let would_be = taken.saturating_add(bytes);
            if self.is_over_quota(account, would_be)
                && !takes_deletion(&mut room.deletable, id, run)
            {
                return Err(Reason::AccountQuota(account));
            }
            *taken = would_be;
            return Ok(());
        }
        if room.others == 0 {
            return Err(Reason::NotListed(account));
        }
        room.others = room.others.checked_sub(bytes).ok_or(Reason::TooMuchOfOthers)?;
        Ok(())
    }

    /// Whether this much more is more than may be stored of an account.
    pub(super) fn is_over_quota(&self, account: CoValueId, bytes: u64) -> bool {
        let Access::Accounts { quota: Some(quota), .. } = self.access else { return false };
        self.usage.of_account(account).saturating_add(bytes) > quota
    }

    pub(super) async fn within_key_quota(
        &self,
        link: &Link,
        mut content: Content,
        refused: &mut Vec<SessionId>,
    ) -> Result<Content, Verdict> {
        let Some(key) = &link.key else { return Ok(content) };
        let bytes = bytes_of(&content);
        if !key.is_over_quota(bytes) {
            return Ok(content);
        }
        let id = content.id;
        let mut deletable = self.deletable(&content).await;
        content.sessions.retain(|run| {
            let is_taken = takes_deletion(&mut deletable, id, run);
            if !is_taken {
                refused.push(run.session.clone());
            }
            is_taken
        });
        let is_whole = content.header.is_some() && content.sessions.is_empty();
        if !refused.is_empty() || is_whole {
            self.refuse(link, id, None, Reason::KeyQuota);
            self.remember_refused(link, &content, bytes, Reason::KeyQuota, refused, is_whole);
        }
        if is_whole {
            return Err(Verdict::Refuse);
        }
        Ok(content)
    }

    /// The header of the CoValue, if the message holds a delete session, and what is here can be
    /// deleted by it: a deletion is small, and makes room in the end, but only the first one does.
    async fn deletable(&self, content: &Content) -> Option<Header> {
        if !content.sessions.iter().any(|run| run.session.is_delete()) {
            return None;
        }
        let stored = self.stored(content.id).await?;
        (!stored.deleted).then_some(stored.header)
    }
}

/// Whether a run is the deletion that is taken beyond a quota.
fn takes_deletion(deletable: &mut Option<Header>, id: CoValueId, run: &SessionContent) -> bool {
    let is_deletion = deletable.as_ref().is_some_and(|header| {
        let claim = delete::claim(id, header, &run.session, run.after, &run.transactions);
        run.json_len() <= MAX_DELETION_BYTES && matches!(claim, Ok(Some(_)))
    });
    if is_deletion {
        *deletable = None;
    }
    is_deletion
}

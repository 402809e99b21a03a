//! What was refused of clients' content, so that it is not asked for when they connect again.
//!
//! A client that connects again names in its LOADs what was refused as well. Whatever the machine
//! answered would make the client send it once more (see `downbeat_sync`, the module `answer`), so
//! the machine is told of the refusal before the LOAD.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, Content, KnownState, SessionContent, SessionId};
use downbeat_sync::Refusal;

use super::{ContentPolicy, Reason};
use crate::access::account_of;
use crate::link::{Kind, Link};

/// How long a refusal counts whose reason may end without anything that is seen here.
const REFUSED_TIME: Duration = Duration::from_mins(1);

/// Sessions of one CoValue that are remembered as refused. A client writes to one or two.
const MAX_SESSIONS: usize = 16;

/// A refusal of a CoValue, or of sessions of one.
pub(super) struct Refused {
    until: Until,
    /// Whether the CoValue was not here, and was refused as a whole.
    is_whole: bool,
    sessions: Vec<SessionId>,
}

/// When a refusal ends.
enum Until {
    /// When there is room for so many bytes more of an access key.
    KeyHasRoom(Arc<str>, u64),
    /// When there is room for so many bytes more of an account.
    AccountHasRoom(CoValueId, u64),
    /// When an account is listed.
    Listed(CoValueId),
    /// After a time.
    Later(Instant),
}

impl ContentPolicy {
    /// Keeps in mind that content was refused: `sessions` of it, or all if the CoValue is not here.
    pub(super) fn remember_refused(
        &self,
        link: &Link,
        content: &Content,
        bytes: u64,
        reason: Reason,
        sessions: &[SessionId],
        is_whole: bool,
    ) {
        let label = link.key.as_ref().map(|key| Arc::clone(key.label()));
        let until = match (reason, label) {
            (Reason::KeyQuota, Some(label)) => Until::KeyHasRoom(label, bytes),
            (Reason::AccountQuota(account), _) => Until::AccountHasRoom(account, bytes),
            (Reason::NotListed(account), _) => Until::Listed(account),
            _ => Until::Later(Instant::now() + REFUSED_TIME),
        };
        let mut memory = self.memory();
        let before = memory.refused.remove(&content.id);
        let mut refused =
            before.unwrap_or(Refused { until, is_whole: false, sessions: Vec::new() });
        refused.is_whole |= is_whole;
        for session in sessions {
            if refused.sessions.len() < MAX_SESSIONS && !refused.sessions.contains(session) {
                refused.sessions.push(session.clone());
            }
        }
        // The pieces of a large CoValue are of several sizes: there is room when the largest fits.
        if let Until::KeyHasRoom(_, most) | Until::AccountHasRoom(_, most) = &mut refused.until {
            *most = bytes.max(*most);
        }
        memory.refused.insert(content.id, refused);
    }

    /// What of a client's LOAD is still refused.
    pub(crate) fn refusals(&self, link: &Link, state: &KnownState) -> Vec<Refusal> {
        if !matches!(link.kind, Kind::Client) || !state.header {
            return Vec::new();
        }
        let listed = self.listed();
        let mut memory = self.memory();
        let Some(refused) = memory.refused.get(&state.id) else { return Vec::new() };
        let claims = |account: CoValueId| {
            state.sessions.iter().any(|(session, _)| account_of(session.owner()) == account)
        };
        let is_refused = match &refused.until {
            Until::KeyHasRoom(label, bytes) => match &link.key {
                // Another key may have room.
                Some(key) if key.label() == label => key.is_over_quota(*bytes),
                _ => return Vec::new(),
            },
            Until::AccountHasRoom(account, _) | Until::Listed(account)
                if refused.is_whole && !state.sessions.is_empty() && !claims(*account) =>
            {
                return Vec::new();
            }
            Until::AccountHasRoom(account, bytes) => self.is_over_quota(*account, *bytes),
            Until::Listed(account) => {
                listed.as_ref().is_some_and(|listed| !listed.contains(account))
            }
            Until::Later(until) => Instant::now() < *until,
        };
        if !is_refused {
            memory.refused.remove(&state.id);
            return Vec::new();
        }
        let whole = refused.is_whole.then_some(Refusal::Earlier);
        let sessions = refused.sessions.iter().cloned().map(Refusal::Session);
        whole.into_iter().chain(sessions).collect()
    }
}

/// The bytes of a message that count for quotas.
pub(super) fn bytes_of(content: &Content) -> u64 {
    let header = content.header.as_ref().map_or(0, |header| header.json().len() as u64);
    content.sessions.iter().map(SessionContent::json_len).sum::<u64>() + header
}

//! Whether a connection has shown that a listed account is behind it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use downbeat_protocol::{CoValueId, Content};
use downbeat_sync::cost::content_credit;

use crate::credit::PEER_CREDIT;

/// CoValues without transactions that wait until their sender has shown who it is. A client makes
/// them before the content that refers to them.
const MAX_PARKED: usize = 256;

/// Bytes of what waits from one connection: so little of its credit that the rest goes on.
const MAX_PARKED_BYTES: u64 = 2 << 20;
const _: () = assert!(MAX_PARKED_BYTES < PEER_CREDIT);

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
    pub(crate) fn account(&self, listed: &BTreeSet<CoValueId>) -> Option<CoValueId> {
        self.state().given.filter(|account| listed.contains(account))
    }

    pub(crate) fn is_given(&self, listed: &BTreeSet<CoValueId>) -> bool {
        self.account(listed).is_some()
    }

    /// Keeps content until the proof is given, unless it has been. `replaced` is called with older
    /// content of the same CoValue, and `has_room` with the credit of the new content.
    pub(crate) fn park(
        &self,
        content: Content,
        listed: &BTreeSet<CoValueId>,
        replaced: impl FnOnce(&Content),
        has_room: impl FnOnce(u64) -> bool,
    ) -> Parked {
        let mut state = self.state();
        if state.given.is_some_and(|account| listed.contains(&account)) {
            return Parked::NotNeeded(content);
        }
        if let Some(older) = state.take(content.id) {
            replaced(&older);
        }
        let bytes = content_credit(&content);
        let is_too_much = state.parked.len() >= MAX_PARKED
            || state.bytes.saturating_add(bytes) > MAX_PARKED_BYTES;
        if is_too_much || !has_room(bytes) {
            return Parked::TooMuch(content);
        }
        state.bytes += bytes;
        state.parked.push_back((Instant::now(), content));
        Parked::Kept
    }

    /// Content of a listed account has been verified. Returns what waited for that.
    pub(crate) fn give(&self, account: CoValueId) -> Vec<Content> {
        let mut state = self.state();
        state.given = Some(account);
        state.take_all()
    }

    /// Returns what waits for the proof, which will not be given any more.
    pub(crate) fn end(&self) -> Vec<Content> {
        self.state().take_all()
    }

    /// Returns what has waited for too long.
    pub(crate) fn expire(&self, now: Instant) -> Vec<Content> {
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
    pub(crate) fn bound(&self, mut needs: Vec<CoValueId>) -> Vec<CoValueId> {
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

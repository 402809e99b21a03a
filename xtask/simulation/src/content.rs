//! Content between the machine and the links: what is not durable yet, what is hot, and what has
//! to be read from storage; as the runtime's content store has it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId};
use downbeat_storage::{MemoryStorage, Storage};
use downbeat_sync::{StoreJob, content_bytes};

use crate::node::at_once;

/// Bytes of transactions that are read at a time where a whole log is walked through.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Reads content for those who send it.
pub(crate) struct ContentStore {
    storage: Arc<MemoryStorage>,
    values: BTreeMap<CoValueId, BTreeMap<SessionId, VecDeque<HotRun>>>,
    /// Durable runs, oldest first: those to forget.
    durable: VecDeque<(CoValueId, SessionId, u64)>,
    bytes: u64,
    budget: u64,
}

struct HotRun {
    content: SessionContent,
    durable: bool,
}

impl ContentStore {
    /// Over a storage, keeping about `budget` bytes of durable content in memory besides all that
    /// is not durable yet.
    pub(crate) fn new(storage: Arc<MemoryStorage>, budget: u64) -> Self {
        Self { storage, values: BTreeMap::new(), durable: VecDeque::new(), bytes: 0, budget }
    }

    /// The storage behind.
    pub(crate) fn storage(&self) -> &MemoryStorage {
        &self.storage
    }

    /// Keeps what is about to be stored, so that it can be read at once.
    pub(crate) fn add(&mut self, job: &StoreJob) {
        for content in &job.sessions {
            self.bytes += content_bytes(content);
            let sessions = self.values.entry(job.id).or_default();
            let runs = sessions.entry(content.session.clone()).or_default();
            runs.push_back(HotRun { content: content.clone(), durable: false });
        }
    }

    /// What was added can be read from storage from now on. In a conflict storage has something
    /// else, and what was added is forgotten.
    pub(crate) fn stored(&mut self, id: CoValueId, sessions: &[SessionContent], conflict: bool) {
        if conflict {
            return self.forget_sessions(id, sessions);
        }
        for stored in sessions {
            let runs = self.values.get_mut(&id).and_then(|value| value.get_mut(&stored.session));
            let run = runs.and_then(|runs| {
                runs.iter_mut().find(|run| run.content.after == stored.after && !run.durable)
            });
            if let Some(run) = run {
                run.durable = true;
                self.durable.push_back((id, stored.session.clone(), stored.after));
            }
        }
        self.forget_oldest();
    }

    fn forget_sessions(&mut self, id: CoValueId, sessions: &[SessionContent]) {
        let Some(value) = self.values.get_mut(&id) else { return };
        for run in sessions {
            for hot in value.remove(&run.session).into_iter().flatten() {
                self.bytes -= content_bytes(&hot.content);
            }
        }
        if value.is_empty() {
            self.values.remove(&id);
        }
    }

    fn forget_oldest(&mut self) {
        while self.bytes > self.budget {
            let Some((id, session, after)) = self.durable.pop_front() else { return };
            let Some(sessions) = self.values.get_mut(&id) else { continue };
            let Some(runs) = sessions.get_mut(&session) else { continue };
            let is_first =
                runs.front().is_some_and(|run| run.durable && run.content.after == after);
            if is_first && let Some(run) = runs.pop_front() {
                self.bytes -= content_bytes(&run.content);
            }
            if runs.is_empty() {
                sessions.remove(&session);
            }
            if sessions.is_empty() {
                self.values.remove(&id);
            }
        }
    }

    /// Content of a CoValue beyond `have`: at least one run of what `until` lists, if it can be
    /// read, and not much more than `max_bytes`.
    pub(crate) fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        until: &SessionCounts,
        max_bytes: usize,
    ) -> Vec<SessionContent> {
        if let Some(runs) = self.read_hot(id, have, until, max_bytes) {
            return runs;
        }
        let mut runs = at_once(self.storage.read(id, have, max_bytes)).unwrap_or_default();
        let mut reached = have.clone();
        let ends = runs.iter().map(|run| (run.session.clone(), run.end())).collect();
        known_state::merge_counts(&mut reached, &ends);
        let bytes: u64 = runs.iter().map(content_bytes).sum();
        let room = max_bytes.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        if room > 0 {
            runs.extend(self.continue_hot(id, &reached, until, room as u64));
        }
        runs
    }

    /// Runs of one session from a position on, up to the count in `until`, which lists nothing
    /// else.
    pub(crate) fn read_session(
        &self,
        id: CoValueId,
        until: &SessionCounts,
        from: u64,
    ) -> Vec<SessionContent> {
        let stored = at_once(self.storage.load(id)).ok().flatten();
        let mut have = stored.map_or_else(SessionCounts::new, |stored| stored.counts());
        for (session, _) in until {
            have.set(session, from);
        }
        self.read(id, &have, until, READ_BYTES)
    }

    /// The content, if all of it is in memory.
    fn read_hot(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        until: &SessionCounts,
        max_bytes: usize,
    ) -> Option<Vec<SessionContent>> {
        let sessions = self.values.get(&id)?;
        let mut result = Vec::new();
        let mut bytes = 0;
        for (session, end) in until {
            let mut at = have.get(session);
            for run in sessions.get(session)? {
                if run.content.after > at {
                    return None;
                }
                if run.content.end() > at {
                    let run = tail(&run.content, at);
                    at = run.end();
                    bytes += content_bytes(&run);
                    result.push(run);
                }
                if bytes >= max_bytes as u64 {
                    return Some(result);
                }
            }
            if at < *end {
                return None;
            }
        }
        Some(result)
    }

    /// Runs in memory that go on where the counts end.
    fn continue_hot(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        until: &SessionCounts,
        max_bytes: u64,
    ) -> Vec<SessionContent> {
        let Some(sessions) = self.values.get(&id) else { return Vec::new() };
        let mut result = Vec::new();
        let mut bytes = 0;
        for (session, _) in until {
            let mut at = have.get(session);
            for run in sessions.get(session).into_iter().flatten() {
                if run.content.after <= at && run.content.end() > at && bytes < max_bytes {
                    let run = tail(&run.content, at);
                    at = run.end();
                    bytes += content_bytes(&run);
                    result.push(run);
                }
            }
        }
        result
    }
}

/// The transactions of a run from a position on.
fn tail(run: &SessionContent, from: u64) -> SessionContent {
    let skip = usize::try_from(from.saturating_sub(run.after)).unwrap_or(usize::MAX);
    SessionContent {
        session: run.session.clone(),
        after: run.after.max(from),
        transactions: run.transactions.iter().skip(skip).cloned().collect(),
        last_signature: run.last_signature,
    }
}

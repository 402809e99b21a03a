//! Content between the machine and the connections: what is not durable yet, what is hot, and
//! what has to be read from storage.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, KnownState, SessionContent, SessionCounts, SessionId};
use downbeat_storage::{Storage, StorageError};
use downbeat_sync::{StoreJob, content_bytes};
use rustc_hash::FxHashMap;

use crate::runs::Runs;

/// Bytes of transactions that are read at a time where a whole log is walked through.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// What keeping a run costs beside its transactions' bytes: its place in two lists, the session's
/// id, the signature, and the transactions' own fields, roughly.
const RUN_OVERHEAD: u64 = 400;

/// Reads content for those who send it. Clones share everything.
#[derive(Clone)]
pub(crate) struct ContentStore {
    storage: Arc<dyn Storage>,
    hot: Arc<Mutex<Hot>>,
}

/// The runs that are kept in memory.
#[derive(Default)]
struct Hot {
    values: FxHashMap<CoValueId, FxHashMap<SessionId, Runs>>,
    /// Durable runs in the order in which they came, oldest first: those to forget.
    durable: VecDeque<(CoValueId, SessionId, u64)>,
    bytes: u64,
    budget: u64,
}

/// Content that is asked for: that of a CoValue beyond `have`, and of it at least what `until`
/// lists.
pub(crate) struct Request<'a> {
    pub id: CoValueId,
    pub have: &'a SessionCounts,
    pub until: &'a SessionCounts,
}

impl ContentStore {
    /// Over a storage, keeping about `budget` bytes of durable content in memory besides all that
    /// is not durable yet.
    pub(crate) fn new(storage: Arc<dyn Storage>, budget: u64) -> Self {
        Self { storage, hot: Arc::new(Mutex::new(Hot { budget, ..Hot::default() })) }
    }

    /// Keeps what is about to be stored, so that it can be read at once.
    pub(crate) fn add(&self, job: &StoreJob) {
        let mut hot = self.hot();
        for content in &job.sessions {
            hot.bytes += cost(content);
            let sessions = hot.values.entry(job.id).or_default();
            let runs = sessions.entry(content.session.clone()).or_default();
            runs.add(content.clone());
        }
    }

    /// What was added of this CoValue up to these counts can be read from storage from now on. In
    /// a conflict storage has something else, and what was added is forgotten.
    pub(crate) fn stored(&self, id: CoValueId, sessions: &[SessionContent], conflict: bool) {
        let mut hot = self.hot();
        if conflict {
            return hot.forget_sessions(id, sessions);
        }
        for stored in sessions {
            let runs =
                hot.values.get_mut(&id).and_then(|sessions| sessions.get_mut(&stored.session));
            if runs.is_some_and(|runs| runs.set_durable(stored.after)) {
                hot.durable.push_back((id, stored.session.clone(), stored.after));
            }
        }
        hot.forget_oldest();
    }

    /// Content of a CoValue beyond `have`: at least one run of what `until` lists, if it can be
    /// read, and not much more than `max_bytes`.
    pub(crate) async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        until: &SessionCounts,
        max_bytes: usize,
    ) -> Result<Vec<SessionContent>, StorageError> {
        if let Some(runs) = self.read_hot(id, have, until, max_bytes) {
            return Ok(runs);
        }
        let runs = self.storage.read(id, have, max_bytes).await?;
        Ok(self.go_on_hot(&Request { id, have, until }, runs, max_bytes))
    }

    /// What [`Self::read`] gives for each of these requests, and not much more than `max_bytes`
    /// together. There may be fewer answers than requests.
    pub(crate) async fn read_many(
        &self,
        requests: &[Request<'_>],
        max_bytes: usize,
    ) -> Vec<Result<Vec<SessionContent>, StorageError>> {
        let mut cold = Vec::new();
        let mut room = max_bytes;
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let hot = if known_state::is_subset(request.until, request.have) {
                Some(Vec::new())
            } else {
                self.read_hot(request.id, request.have, request.until, room)
            };
            match &hot {
                Some(runs) => room = room.saturating_sub(bytes_of(runs)),
                None => cold.push(KnownState {
                    id: request.id,
                    header: true,
                    sessions: request.have.clone(),
                }),
            }
            answers.push(hot);
            if room == 0 {
                break;
            }
        }
        let read =
            if cold.is_empty() { Vec::new() } else { self.storage.read_many(cold, room).await };
        let mut read = read.into_iter();
        let complete = |(hot, request)| match hot {
            Some(runs) => Some(Ok(runs)),
            None => Some(read.next()?.map(|runs| self.go_on_hot(request, runs, max_bytes))),
        };
        answers.into_iter().zip(requests).map_while(complete).collect()
    }

    /// Adds what is not durable yet to what storage gave, where it continues that. Storage may have
    /// had it, or not.
    fn go_on_hot(
        &self,
        request: &Request<'_>,
        mut runs: Vec<SessionContent>,
        max_bytes: usize,
    ) -> Vec<SessionContent> {
        let mut reached = request.have.clone();
        known_state::merge_counts(
            &mut reached,
            &runs.iter().map(|run| (run.session.clone(), run.end())).collect(),
        );
        let room = max_bytes.saturating_sub(bytes_of(&runs));
        if room > 0 {
            runs.extend(self.continue_hot(request.id, &reached, request.until, room));
        }
        runs
    }

    /// Runs of one session from a position on, up to the count in `until`, which lists nothing
    /// else.
    pub(crate) async fn read_session(
        &self,
        id: CoValueId,
        until: &SessionCounts,
        from: u64,
    ) -> Result<Vec<SessionContent>, StorageError> {
        // The other sessions are passed over by saying that they are known.
        let mut have = match self.storage.load(id).await? {
            Some(stored) => stored.counts(),
            None => SessionCounts::new(),
        };
        for (session, _) in until {
            have.set(session, from);
        }
        self.read(id, &have, until, READ_BYTES).await
    }

    /// Bytes of content in memory.
    pub(crate) fn hot_bytes(&self) -> u64 {
        self.hot().bytes
    }

    /// The storage behind.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The content, if all of it is in memory.
    fn read_hot(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        until: &SessionCounts,
        max_bytes: usize,
    ) -> Option<Vec<SessionContent>> {
        let hot = self.hot();
        let sessions = hot.values.get(&id)?;
        let mut result = Vec::new();
        let mut bytes = 0;
        for (session, end) in until {
            let mut at = have.get(session);
            if at >= *end {
                continue;
            }
            for run in sessions.get(session)?.beyond(at) {
                if run.after > at {
                    return None;
                }
                let run = tail(run, at);
                at = run.end();
                bytes += content_bytes(&run);
                result.push(run);
                if bytes >= max_bytes as u64 {
                    return Some(result);
                }
                if at >= *end {
                    break;
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
        max_bytes: usize,
    ) -> Vec<SessionContent> {
        let hot = self.hot();
        let Some(sessions) = hot.values.get(&id) else { return Vec::new() };
        let mut result = Vec::new();
        let mut bytes = 0;
        for (session, end) in until {
            let mut at = have.get(session);
            let Some(runs) = sessions.get(session) else { continue };
            for run in runs.beyond(at) {
                if at >= *end || run.after > at || bytes >= max_bytes as u64 {
                    break;
                }
                let run = tail(run, at);
                at = run.end();
                bytes += content_bytes(&run);
                result.push(run);
            }
        }
        result
    }

    fn hot(&self) -> MutexGuard<'_, Hot> {
        // The map is consistent between any two statements that could panic.
        self.hot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(runs: &[SessionContent]) -> usize {
    usize::try_from(runs.iter().map(content_bytes).sum::<u64>()).unwrap_or(usize::MAX)
}

impl Hot {
    /// Forgets all that is here of these sessions. Their stamps in `durable` find nothing, or
    /// newer runs at the same place that are durable as well.
    fn forget_sessions(&mut self, id: CoValueId, stored: &[SessionContent]) {
        let Some(sessions) = self.values.get_mut(&id) else { return };
        for run in stored {
            let runs = sessions.remove(&run.session);
            self.bytes -= runs.iter().flat_map(Runs::iter).map(cost).sum::<u64>();
        }
        if sessions.is_empty() {
            self.values.remove(&id);
        }
    }

    /// Forgets durable runs, oldest first, until the budget is kept. A session's runs stay a
    /// sequence without gaps, because they become durable in their order.
    fn forget_oldest(&mut self) {
        while self.bytes > self.budget {
            let Some((id, session, after)) = self.durable.pop_front() else { return };
            let Some(sessions) = self.values.get_mut(&id) else { continue };
            let Some(runs) = sessions.get_mut(&session) else { continue };
            if let Some(run) = runs.forget_first(after) {
                self.bytes -= cost(&run);
            }
            if runs.is_empty() {
                sessions.remove(&session);
            }
            if sessions.is_empty() {
                self.values.remove(&id);
            }
        }
    }
}

/// Bytes of memory that a run counts for.
fn cost(run: &SessionContent) -> u64 {
    content_bytes(run) + RUN_OVERHEAD
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

#[cfg(test)]
mod tests {
    use downbeat_protocol::{Header, Ruleset, Signature, Transaction};
    use downbeat_storage::{MemoryStorage, Write};

    use super::*;

    fn id() -> CoValueId {
        CoValueId::parse("co_z1").unwrap()
    }

    fn session(name: &str) -> SessionId {
        SessionId::parse(&format!("co_z2_session_z{name}")).unwrap()
    }

    fn run(name: &str, after: u64) -> SessionContent {
        SessionContent {
            session: session(name),
            after,
            transactions: vec![Transaction::trusting(&format!("[{after}]"), 0, None)],
            last_signature: Signature::from_bytes(&[0; 64]),
        }
    }

    /// A store in which this is, and a cache with room for so many runs.
    async fn store(stored: &[SessionContent], runs: u64) -> ContentStore {
        let storage = MemoryStorage::new();
        let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
        for run in stored {
            let sessions = vec![run.clone()];
            let write = Write::Append { id: id(), header: Some(header.clone()), sessions };
            storage.append(vec![write]).await.unwrap();
        }
        ContentStore::new(Arc::new(storage), runs * cost(&run("a", 0)))
    }

    fn add(content: &ContentStore, run: &SessionContent) {
        let sessions = vec![run.clone()];
        content.add(&StoreJob { id: id(), header: None, sessions, delete: false, author: None });
    }

    async fn read(content: &ContentStore, until: &[(&str, u64)]) -> Vec<(SessionId, u64, u64)> {
        let until = until.iter().map(|(name, count)| (session(name), *count)).collect();
        let runs = content.read(id(), &SessionCounts::new(), &until, READ_BYTES).await.unwrap();
        runs.into_iter().map(|run| (run.session.clone(), run.after, run.end())).collect()
    }

    #[tokio::test]
    async fn what_is_not_durable_stays_whatever_the_budget() {
        let content = store(&[], 0).await;
        for after in 0..3 {
            add(&content, &run("a", after));
        }
        assert_eq!(read(&content, &[("a", 3)]).await.len(), 3);
    }

    #[tokio::test]
    async fn what_is_durable_and_what_is_not_make_one_log_without_a_gap() {
        let content = store(&[run("a", 0), run("b", 0)], 0).await;
        for run in [run("a", 0), run("b", 0), run("a", 1)] {
            add(&content, &run);
        }
        content.stored(id(), &[run("a", 0), run("b", 0)], false);
        assert_eq!(content.hot_bytes(), cost(&run("a", 1)));
        let mut found = read(&content, &[("a", 2), ("b", 1)]).await;
        found.sort();
        let expected = [(session("a"), 0, 1), (session("a"), 1, 2), (session("b"), 0, 1)];
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn the_oldest_durable_runs_are_forgotten_first() {
        let content = store(&[], 2).await;
        for run in [run("a", 0), run("b", 0), run("a", 1)] {
            add(&content, &run);
            content.stored(id(), &[run], false);
        }
        // Not in storage, so only what is in memory is found.
        assert_eq!(read(&content, &[("b", 1)]).await.len(), 1);
        assert_eq!(read(&content, &[("a", 2)]).await, []);
    }

    #[tokio::test]
    async fn what_storage_has_otherwise_is_forgotten() {
        let content = store(&[], 10).await;
        add(&content, &run("a", 0));
        add(&content, &run("a", 1));
        content.stored(id(), &[run("a", 0)], true);
        assert_eq!(content.hot_bytes(), 0);
        assert_eq!(read(&content, &[("a", 2)]).await, []);
        // Later stores of what was forgotten find nothing to mark.
        content.stored(id(), &[run("a", 1)], false);
    }
}

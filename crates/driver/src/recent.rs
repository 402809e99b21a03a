//! Content in memory: all that is not durable yet, and the last that was stored.

mod runs;

use std::collections::VecDeque;

use downbeat_core::known_state;
use downbeat_protocol::{CoValueId, SessionContent, SessionId};
use downbeat_sync::StoreJob;
use rustc_hash::FxHashMap;

use crate::chunker::ReadRequest;
use runs::Runs;

/// Approximate memory of a run beside its transactions' bytes: entries in two lists, the session's
/// id, the signature, and the transactions' own fields.
const RUN_OVERHEAD: u64 = 400;

/// Keeps the content of [`StoreJob`]s until it is durable, so that it can be sent at once. Keeps it
/// longer while there is room, because peers mostly ask for new content.
///
/// [`ContentStore`](crate::ContentStore) reads from here first, and appends recent content to what
/// it reads from storage.
#[derive(Debug, Default)]
pub struct RecentContent {
    values: FxHashMap<CoValueId, FxHashMap<SessionId, Runs>>,
    /// Durable runs, oldest first. They are dropped in this order.
    durable: VecDeque<(CoValueId, SessionId, u64)>,
    bytes: u64,
    budget: u64,
}

impl RecentContent {
    /// Creates an empty cache for about `budget` bytes of durable content. Content that is not
    /// durable is kept in any case.
    pub fn new(budget: u64) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Adds content that is about to be stored.
    pub fn add(&mut self, job: &StoreJob) {
        for content in &job.sessions {
            self.bytes += cost(content);
            let sessions = self.values.entry(job.id).or_default();
            let runs = sessions.entry(content.session.clone()).or_default();
            runs.add(content.clone());
        }
    }

    /// Marks added runs as durable. After a conflict, storage has other content, so that everything
    /// that was added of their sessions is dropped.
    pub fn stored(&mut self, id: CoValueId, sessions: &[SessionContent], conflict: bool) {
        if conflict {
            return self.forget_sessions(id, sessions);
        }
        for stored in sessions {
            let runs =
                self.values.get_mut(&id).and_then(|sessions| sessions.get_mut(&stored.session));
            if runs.is_some_and(|runs| runs.set_durable(stored.after)) {
                self.durable.push_back((id, stored.session.clone(), stored.after));
            }
        }
        self.forget_oldest();
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads content, if all of it is here.
    pub fn read(&self, request: &ReadRequest<'_>) -> Option<Vec<SessionContent>> {
        if known_state::is_subset(request.until, request.have) {
            return Some(Vec::new());
        }
        let sessions = self.values.get(&request.id)?;
        let mut result = Vec::new();
        let mut bytes = 0;
        for (session, end) in request.until {
            let mut at = request.have.get(session);
            if at >= *end {
                continue;
            }
            for run in sessions.get(session)?.beyond(at) {
                if run.after > at {
                    return None;
                }
                let run = tail(run, at);
                at = run.end();
                bytes += run.json_len();
                result.push(run);
                if bytes >= request.max_bytes as u64 {
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

    /// Appends recent runs to runs from storage, where they follow. Storage may have contained the
    /// recent runs or not.
    pub fn append_recent(
        &self,
        request: &ReadRequest<'_>,
        mut runs: Vec<SessionContent>,
    ) -> Vec<SessionContent> {
        let Some(sessions) = self.values.get(&request.id) else { return runs };
        let mut reached = request.have.clone();
        for run in &runs {
            reached.raise(&run.session, run.end());
        }
        let mut bytes: u64 = runs.iter().map(SessionContent::json_len).sum();
        for (session, end) in request.until {
            if bytes >= request.max_bytes as u64 {
                break;
            }
            let mut at = reached.get(session);
            let Some(recent) = sessions.get(session) else { continue };
            for run in recent.beyond(at) {
                if at >= *end || run.after > at || bytes >= request.max_bytes as u64 {
                    break;
                }
                let run = tail(run, at);
                at = run.end();
                bytes += run.json_len();
                runs.push(run);
            }
        }
        runs
    }

    /// Drops all runs of these sessions. Their entries in `durable` find nothing afterwards, or
    /// newer runs at the same position that are durable as well.
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

    /// Drops durable runs, oldest first, until the budget is kept. A session's runs stay a sequence
    /// without gaps, because they become durable in their order.
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
    run.json_len() + RUN_OVERHEAD
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
    use downbeat_protocol::{SessionCounts, Signature, Transaction};

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

    /// Room for so many durable runs.
    fn recent(runs: u64) -> RecentContent {
        RecentContent::new(runs * cost(&run("a", 0)))
    }

    fn add(recent: &mut RecentContent, run: &SessionContent) {
        let sessions = vec![run.clone()];
        recent.add(&StoreJob { id: id(), header: None, sessions, delete: false, author: None });
    }

    fn counts(counts: &[(&str, u64)]) -> SessionCounts {
        counts.iter().map(|(name, count)| (session(name), *count)).collect()
    }

    fn read(recent: &RecentContent, until: &[(&str, u64)]) -> Option<Vec<SessionContent>> {
        let (have, until) = (SessionCounts::new(), counts(until));
        recent.read(&ReadRequest { id: id(), have: &have, until: &until, max_bytes: 1 << 20 })
    }

    #[test]
    fn what_is_not_durable_stays_whatever_the_budget() {
        let mut recent = recent(0);
        for after in 0..3 {
            add(&mut recent, &run("a", after));
        }
        assert_eq!(read(&recent, &[("a", 3)]).unwrap().len(), 3);
    }

    #[test]
    fn what_storage_gives_and_what_is_not_durable_make_one_log_without_a_gap() {
        let mut recent = recent(0);
        let durable = vec![run("a", 0), run("b", 0)];
        for run in durable.iter().chain([&run("a", 1)]) {
            add(&mut recent, run);
        }
        recent.stored(id(), &durable, false);
        assert_eq!(recent.bytes(), cost(&run("a", 1)));
        assert_eq!(read(&recent, &[("a", 2), ("b", 1)]), None, "not all of it is here");

        let (have, until) = (SessionCounts::new(), counts(&[("a", 2), ("b", 1)]));
        let mut request = ReadRequest { id: id(), have: &have, until: &until, max_bytes: 1 << 20 };
        let all = vec![run("a", 0), run("b", 0), run("a", 1)];
        assert_eq!(recent.append_recent(&request, durable.clone()), all);
        assert_eq!(recent.append_recent(&request, all.clone()), all, "storage had it already");
        assert_eq!(
            recent.append_recent(&request, vec![run("b", 0)]),
            [run("b", 0)],
            "there is a gap"
        );
        request.max_bytes = 1;
        assert_eq!(recent.append_recent(&request, durable.clone()), durable, "that is enough");
    }

    #[test]
    fn the_oldest_durable_runs_are_forgotten_first() {
        let mut recent = recent(2);
        for run in [run("a", 0), run("b", 0), run("a", 1)] {
            add(&mut recent, &run);
            recent.stored(id(), &[run], false);
        }
        assert_eq!(read(&recent, &[("b", 1)]).unwrap().len(), 1);
        assert_eq!(read(&recent, &[("a", 2)]), None);
    }

    #[test]
    fn what_storage_has_otherwise_is_forgotten() {
        let mut recent = recent(10);
        add(&mut recent, &run("a", 0));
        add(&mut recent, &run("a", 1));
        recent.stored(id(), &[run("a", 0)], true);
        assert_eq!(recent.bytes(), 0);
        assert_eq!(read(&recent, &[("a", 2)]), None);
        // Later stores of what was forgotten find nothing to mark.
        recent.stored(id(), &[run("a", 1)], false);
    }
}

//! Runs of transactions: whether they follow what is here, and are new.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId, SignerId};

use crate::credit::Credit;
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::machine::verify::Job;

impl Machine {
    /// Takes runs of one session that follow each other. Returns `false` if the peer has to be
    /// corrected, because the first run does not follow what is here.
    pub(super) fn accept_runs(
        &mut self,
        id: CoValueId,
        mut runs: Vec<SessionContent>,
        credit: Credit,
        signer: Option<SignerId>,
    ) -> bool {
        let peer = credit.peer();
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return true };
        let Some(index) = self.index_mut(id) else { return true };
        if let Some(pipeline) = index.pipeline_mut(&first.session) {
            pipeline.push(runs, credit);
            return true;
        }
        let verified = index.verified().get(&first.session);
        // Content for a deleted CoValue is acknowledged and dropped, so that clients that do not
        // know of the deletion stop sending it.
        let is_deleted = index.is_deleted() && !first.session.is_delete();
        let (session, end) = (first.session.clone(), last.end());
        if first.after > verified && !is_deleted {
            self.release(credit);
            // A peer would answer a correction with the refused or forked content.
            return self.has_forked(peer, id, &session) || self.has_refused(peer, id, &session);
        }
        let repeated: Vec<_> = runs.iter().filter(|run| run.after < verified).cloned().collect();
        // An upstream has verified what it sends, and edges get the same from several upstreams.
        let is_checked =
            repeated.iter().all(|run| run.transactions.is_empty()) || !self.is_client(peer);
        if is_deleted || end <= verified && is_checked {
            self.peer_has(peer, id, &session, end);
            self.release(credit);
            return true;
        }
        runs.retain(|run| run.end() > verified);
        let repeats = self.has_bug(InjectedBug::RepeatKnownPart);
        if let Some(first) = runs.first_mut().filter(|_| !repeats) {
            drop_known_prefix(first, verified);
        }
        let repeated = if is_checked { Vec::new() } else { repeated };
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.accept_session(&session);
        }
        self.verify(Job { id, session, end, runs, repeated }, credit, signer);
        true
    }

    /// A peer has this much of a session, which it has sent.
    pub(super) fn peer_has(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
        count: u64,
    ) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.merge_sent(true, &SessionCounts::from_iter([(session.clone(), count)]));
        }
    }

    /// Whether content of a session was refused from a peer, and none of it was accepted since.
    fn has_refused(&self, peer: PeerId, id: CoValueId, session: &SessionId) -> bool {
        !self.has_bug(InjectedBug::CorrectRefused)
            && self.subscription(peer, id).is_some_and(|state| state.has_refused(session))
    }

    /// Whether content of a session was refused because the peer has forked it.
    fn has_forked(&self, peer: PeerId, id: CoValueId, session: &SessionId) -> bool {
        let forked = self.subscription(peer, id).and_then(|state| state.forked());
        forked.is_some_and(|(forked, _)| forked == session)
    }
}

fn drop_known_prefix(content: &mut SessionContent, known: u64) {
    let skip = usize::try_from(known.saturating_sub(content.after)).unwrap_or(usize::MAX);
    content.transactions.drain(..skip.min(content.transactions.len()));
    content.after = known;
}

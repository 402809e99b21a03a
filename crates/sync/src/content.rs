//! Content from peers: from the message to verified, stored and acknowledged transactions.

use std::collections::VecDeque;

use downbeat_core::delete::{self, Claim};
use downbeat_core::{dependencies, known_state};
use downbeat_crypto::header_id;
use downbeat_protocol::{
    CoValueId, Content, Header, Owner, SessionContent, SessionCounts, SessionId, SignerId,
};

use crate::action::{Action, StoreJob, VerifyJob};
use crate::covalue::{Entry, Index, Pipeline, Presence};
use crate::event::{Millis, PeerId, Stored, Verified};
use crate::machine::Machine;
use crate::report::{Rejection, Report};

/// What a run of transactions counts for in bounds and releases: the bytes of its transactions.
/// A runtime that bounds what a peer has in the machine's care counts the same.
pub fn content_bytes(content: &SessionContent) -> u64 {
    content.transactions.iter().map(|transaction| transaction.json().len() as u64).sum()
}

pub(crate) fn message_bytes(content: &Content) -> u64 {
    content.sessions.iter().map(content_bytes).sum()
}

impl Machine {
    pub(crate) fn received_content(&mut self, peer: PeerId, content: Content) {
        let id = content.id;
        let Some(subscription) = self.subscribe(peer, id) else {
            return self.release(peer, message_bytes(&content));
        };
        let is_errored = subscription.errored;
        self.upstream_answered(peer, &content);
        if is_errored {
            self.report(Report::new(peer, id, Rejection::Errored));
            return self.release(peer, message_bytes(&content));
        }
        let entry = self.entry(id);
        match entry.presence {
            Presence::Loading | Presence::Unknown(_) => entry.inbox.push((peer, content)),
            Presence::Asking(_) | Presence::Absent | Presence::Here(_) => {
                self.take_content(peer, content, None);
            }
        }
    }

    /// Content of a CoValue of which it is known whether it is there. `until` is how long it may
    /// wait for dependencies, where it has waited already.
    pub(crate) fn take_content(
        &mut self,
        peer: PeerId,
        mut content: Content,
        until: Option<Millis>,
    ) {
        let id = content.id;
        self.report_malformed(peer, &mut content);
        let entry = self.entry(id);
        let header = match (&entry.presence, &content.header) {
            (Presence::Here(index), _) => index.header.clone(),
            (_, Some(header)) => header.clone(),
            (_, None) => return self.ask_for_everything(peer, content),
        };
        if entry.index().is_none() {
            let actual = header_id(&header);
            if actual != id {
                self.report(Report::new(peer, id, Rejection::HeaderMismatch { actual }));
                return self.release(peer, message_bytes(&content));
            }
        }
        self.entry(id).add_dependencies(dependencies::of_content(id, &header, &content));
        let missing = self.missing_dependencies(id, &content);
        if !missing.is_empty() {
            return self.hold(peer, content, &missing, until);
        }
        self.accept_content(peer, header, content);
    }

    /// Content without a header, of a CoValue that is not there.
    fn ask_for_everything(&mut self, peer: PeerId, content: Content) {
        self.release(peer, message_bytes(&content));
        self.owe_correction(peer, content.id);
    }

    fn report_malformed(&mut self, peer: PeerId, content: &mut Content) {
        for malformed in std::mem::take(&mut content.malformed) {
            let rejection = Rejection::Malformed(malformed.error.to_string());
            let report = Report::new(peer, content.id, rejection);
            self.report(Report { session: Some(malformed.session), ..report });
            self.mark_errored(peer, content.id);
        }
    }

    fn mark_errored(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.errored = true;
        }
    }

    /// Content whose dependencies are all there.
    fn accept_content(&mut self, peer: PeerId, header: Header, content: Content) {
        let id = content.id;
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.merge(content.header.is_some(), &SessionCounts::new());
        }
        let entry = self.entry(id);
        let is_new = entry.index().is_none();
        if is_new {
            let mut index = Index::new(header, SessionCounts::new());
            (index.fresh, index.header_unstored) = (true, true);
            entry.presence = Presence::Here(Box::new(index));
        }
        if let Some(expected) = &content.expect_content_until
            && self.peers.get(&peer).is_some_and(|state| state.upstream.is_some())
            && let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut)
        {
            known_state::merge_counts(&mut index.announced, expected);
        }
        let sent: SessionCounts =
            content.sessions.iter().map(|run| (run.session.clone(), run.end())).collect();
        let mut follows = true;
        for run in content.sessions {
            follows &= self.accept_runs(peer, id, vec![run]);
        }
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if follows {
            match index.awaiting_ack.iter_mut().find(|(other, _)| *other == peer) {
                Some((_, counts)) => known_state::merge_counts(counts, &sent),
                None => index.awaiting_ack.push((peer, sent)),
            }
        } else {
            self.owe_correction(peer, id);
        }
        if is_new {
            self.release_dependants(id);
        }
        self.after_verification(id);
    }

    fn owe_correction(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.owes.correction = true;
        }
        self.owe(peer, id);
    }

    /// Takes runs of one session that follow each other; `false` if the first does not follow
    /// what is there.
    fn accept_runs(&mut self, peer: PeerId, id: CoValueId, mut runs: Vec<SessionContent>) -> bool {
        let bytes = runs.iter().map(content_bytes).sum();
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return true };
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return true };
        if let Some(pipeline) = index.pipelines.get_mut(&first.session) {
            pipeline.waiting.extend(runs.into_iter().map(|run| (peer, run)));
            return true;
        }
        let verified = index.verified().get(&first.session);
        // Content for a deleted CoValue is taken in silence, so that clients that do not know of
        // the deletion stop sending it.
        let quietly = index.deleted && !first.session.is_delete();
        if quietly || last.end() <= verified {
            self.peer_has(peer, id, &last.session.clone(), last.end());
            self.release(peer, bytes);
            return true;
        }
        if first.after > verified {
            self.release(peer, bytes);
            return false;
        }
        runs.retain(|run| run.end() > verified);
        if let Some(first) = runs.first_mut() {
            drop_known_prefix(first, verified);
        }
        self.verify(peer, id, runs, bytes);
        true
    }

    fn peer_has(&mut self, peer: PeerId, id: CoValueId, session: &SessionId, count: u64) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.merge(true, &SessionCounts::from_iter([(session.clone(), count)]));
        }
    }

    /// Has runs verified that follow what is there, and each other.
    fn verify(&mut self, peer: PeerId, id: CoValueId, runs: Vec<SessionContent>, bytes: u64) {
        let Some(first) = runs.first() else { return };
        let session = first.session.clone();
        let prepared = self.signer(id, &session).and_then(|signer| {
            let claim = self.claim(id, &runs)?;
            Ok((signer, claim))
        });
        let (signer, claim) = match prepared {
            Ok(prepared) => prepared,
            Err(rejection) => {
                self.report(Report::new(peer, id, rejection).session(&session));
                self.mark_errored(peer, id);
                return self.release(peer, bytes);
            }
        };
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let after = index.verified().get(&session);
        let chain = index.chains.remove(&session);
        self.warm_chains -= usize::from(chain.is_some());
        index.pipelines.insert(
            session.clone(),
            Pipeline { author: peer, bytes, deletes: claim.is_some(), waiting: VecDeque::new() },
        );
        let job = VerifyJob { id, session, after, chain, signer, runs, claim };
        self.actions.push(Action::Verify(job));
    }

    /// Whose signature a session of a CoValue carries.
    fn signer(&self, id: CoValueId, session: &SessionId) -> Result<SignerId, Rejection> {
        match session.owner() {
            Owner::Agent(agent) => Ok(agent.signer()),
            Owner::Account(account) => {
                let index = self.values.get(account).and_then(Entry::index);
                debug_assert!(index.is_some() || *account == id, "accounts are dependencies");
                index
                    .and_then(|index| index.header.account_agent())
                    .map(downbeat_protocol::AgentId::signer)
                    .ok_or(Rejection::NotAnAccount)
            }
        }
    }

    /// The claim to delete the CoValue that runs make, as far as it can be told without the
    /// group's history.
    fn claim(&self, id: CoValueId, runs: &[SessionContent]) -> Result<Option<Claim>, Rejection> {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return Ok(None) };
        for run in runs {
            let claim =
                delete::claim(id, &index.header, &run.session, run.after, &run.transactions)?;
            if claim.is_some() {
                return Ok(claim);
            }
        }
        Ok(None)
    }

    pub(crate) fn verified(&mut self, result: Verified) {
        let Verified { id, session, accepted, chain, rejection } = result;
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let Some(pipeline) = index.pipelines.get_mut(&session) else { return };
        let (author, bytes) = (pipeline.author, std::mem::take(&mut pipeline.bytes));
        let deletes = pipeline.deletes;
        if let Some(chain) = chain.filter(|_| self.warm_chains < self.config.warm_chains) {
            index.chains.insert(session.clone(), chain);
            self.warm_chains += 1;
        }
        if let Some(last) = accepted.last() {
            let end = last.end();
            index.advance(&session, end);
            if deletes {
                self.warm_chains -= index.chains.len();
                index.delete();
            }
            self.peer_has(author, id, &session, end);
            self.note_unsynced(id);
            self.store(id, accepted, deletes, vec![(author, bytes)]);
            self.forward(id);
        } else {
            self.release(author, bytes);
        }
        if let Some(rejection) = rejection {
            self.report(Report::new(author, id, rejection).session(&session));
            self.mark_errored(author, id);
        }
        self.continue_pipeline(id, &session);
        self.after_verification(id);
    }

    /// Goes on with what waited for a session's verification.
    fn continue_pipeline(&mut self, id: CoValueId, session: &SessionId) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        // Taken out, so that what waits is not put behind itself.
        let Some(Pipeline { mut waiting, .. }) = index.pipelines.remove(session) else { return };
        while let Some((peer, runs)) = next_runs(&mut waiting) {
            if self.subscription(peer, id).is_some_and(|subscription| subscription.errored) {
                self.release(peer, runs.iter().map(content_bytes).sum());
            } else if !self.accept_runs(peer, id, runs) {
                self.owe_correction(peer, id);
            }
            let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
            if let Some(pipeline) = index.pipelines.get_mut(session) {
                pipeline.waiting = waiting;
                return;
            }
        }
    }

    /// What is due when something may have been the last to be verified: a new CoValue's header
    /// is stored if no content took it along, and what needs no more waiting is acknowledged.
    fn after_verification(&mut self, id: CoValueId) {
        let Some(index) = self.values.get(&id).and_then(Entry::index) else { return };
        let is_verified = index.pipelines.is_empty();
        if index.header_unstored && is_verified {
            self.note_unsynced(id);
            self.store(id, Vec::new(), false, Vec::new());
        }
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if index.fresh && is_verified {
            index.fresh = false;
            self.decided(id);
            self.forward(id);
        }
        self.acknowledge(id, &[]);
    }

    fn store(
        &mut self,
        id: CoValueId,
        sessions: Vec<SessionContent>,
        delete: bool,
        releases: Vec<(PeerId, u64)>,
    ) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let header = std::mem::take(&mut index.header_unstored).then(|| index.header.clone());
        index.stores.push_back(releases);
        self.actions.push(Action::Store(StoreJob { id, header, sessions, delete }));
    }

    pub(crate) fn stored(&mut self, stored: Stored) {
        let Stored { id, durable, conflict } = stored;
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Some(index) = entry.index_mut() else { return };
        let Some(releases) = index.stores.pop_front() else { return };
        index.settle(&durable);
        if conflict && index.is_settled() {
            // Somebody else writes to the same storage: what is there must be looked up again.
            self.warm_chains -= index.chains.len();
            let unacknowledged = std::mem::take(&mut index.awaiting_ack);
            entry.waiting.extend(unacknowledged.into_iter().map(|(peer, _)| (peer, id)));
            entry.presence = Presence::Loading;
            self.actions.push(Action::Load(id));
        }
        self.acknowledge(id, &releases);
        for (peer, bytes) in releases {
            self.release(peer, bytes);
        }
    }

    /// Owes KNOWN to the authors of what has just been stored, and to those who have sent what is
    /// all there by now.
    fn acknowledge(&mut self, id: CoValueId, authors: &[(PeerId, u64)]) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if index.header_unstored || index.awaiting_ack.is_empty() {
            return;
        }
        let all_stored = index.stores.is_empty();
        let mut awaiting = std::mem::take(&mut index.awaiting_ack);
        let mut due: Vec<PeerId> = authors.iter().map(|(peer, _)| *peer).collect();
        awaiting.retain(|(peer, sent)| {
            // A header has no count to go by, so content without transactions waits for all.
            let done = index.is_settled_up_to(sent) && (all_stored || !sent.is_empty());
            if done {
                due.push(*peer);
            }
            !done
        });
        index.awaiting_ack = awaiting;
        for peer in due {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.owes.known = true;
                self.owe(peer, id);
            }
            self.reconciled(peer, id);
        }
    }

    /// Lets every subscriber have what it lacks now.
    pub(crate) fn forward(&mut self, id: CoValueId) {
        self.watch_upstream(id);
        let subscribers = self.subscribers.get(&id).cloned().unwrap_or_default();
        for peer in subscribers {
            if self.subscription(peer, id).is_some_and(|subscription| !subscription.errored) {
                self.owe(peer, id);
            }
        }
    }
}

/// Takes the first runs that are from one peer and follow each other.
fn next_runs(
    waiting: &mut VecDeque<(PeerId, SessionContent)>,
) -> Option<(PeerId, Vec<SessionContent>)> {
    let (peer, first) = waiting.pop_front()?;
    let mut end = first.end();
    let mut runs = vec![first];
    while let Some((_, run)) =
        waiting.pop_front_if(|(other, run)| *other == peer && run.after == end)
    {
        end = run.end();
        runs.push(run);
    }
    Some((peer, runs))
}

fn drop_known_prefix(content: &mut SessionContent, known: u64) {
    let skip = usize::try_from(known.saturating_sub(content.after)).unwrap_or(usize::MAX);
    content.transactions.drain(..skip.min(content.transactions.len()));
    content.after = known;
}

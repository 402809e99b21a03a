//! Content from peers: from the message to verified, stored and acknowledged transactions.

use std::collections::VecDeque;

use downbeat_core::{dependencies, known_state};
use downbeat_crypto::{HashChain, header_id};
use downbeat_protocol::{
    CoValueId, Content, Header, Owner, SessionContent, SessionCounts, SessionId, SignerId,
};

use crate::action::{Action, StoreJob, VerifyJob};
use crate::covalue::{Entry, Index, Pipeline, Presence, Waiting};
use crate::event::{Millis, PeerId, Stored, Verified};
use crate::faults::Fault;
use crate::holding::Needs;
use crate::machine::{MIN_STALE_STAMPS, Machine};
use crate::report::{Rejection, Report};
use crate::subscription::{Owes, Subscription};

/// What keeping a content message costs beside its header and runs, in bytes. Counted so that
/// messages without transactions do not come for free.
const MESSAGE_OVERHEAD: u64 = 256;

/// What keeping a run costs beside its transactions: mostly the session's id and the signature.
const RUN_OVERHEAD: u64 = 256;

/// The bytes of a run's transactions.
pub fn content_bytes(content: &SessionContent) -> u64 {
    content.transactions.iter().map(|transaction| transaction.json().len() as u64).sum()
}

/// What a content message counts for while it is in the machine's care: somewhat more than the
/// bytes in it. A runtime that bounds what it takes from a peer counts the same, and has it back
/// with [`Action::Release`].
pub fn content_credit(content: &Content) -> u64 {
    frame_credit(content) + content.sessions.iter().map(run_credit).sum::<u64>()
}

/// The part of a message's credit that is not for its runs.
fn frame_credit(content: &Content) -> u64 {
    MESSAGE_OVERHEAD + content.header.as_ref().map_or(0, |header| header.json().len() as u64)
}

fn run_credit(run: &SessionContent) -> u64 {
    RUN_OVERHEAD + content_bytes(run)
}

impl Machine {
    pub(crate) fn received_content(&mut self, peer: PeerId, content: Content) {
        let id = content.id;
        let is_upstream = self.peers.get(&peer).is_some_and(|state| state.upstream.is_some());
        let Some(subscription) = self.track(peer, id) else {
            return self.release(peer, content_credit(&content));
        };
        // An upstream that sends something unasked for is asked first what it has.
        subscription.subscribed |= subscription.asked || !is_upstream;
        let is_errored = subscription.errored;
        self.client_answered(peer, id);
        self.upstream_answered(peer, &content);
        if is_errored {
            self.report(Report::new(peer, id, Rejection::Errored));
            self.upstream_refused(peer, id);
            return self.release(peer, content_credit(&content));
        }
        self.take_content(peer, content, None);
    }

    /// Content that is to be taken now, or when it is known whether its CoValue is there. `waited`
    /// is until when it may wait for dependencies, where it has waited already; its credit has been
    /// released then.
    pub(crate) fn take_content(
        &mut self,
        peer: PeerId,
        mut content: Content,
        waited: Option<Millis>,
    ) {
        let id = content.id;
        let entry = self.entry(id);
        let is_looked_up = match &entry.presence {
            Presence::Loading | Presence::Unknown(_) => false,
            Presence::Here(index) => !index.outdated,
            Presence::Asking(_) | Presence::Absent => true,
        };
        if !is_looked_up {
            return entry.inbox.push((peer, content, waited));
        }
        self.report_malformed(peer, &mut content);
        let is_holding = self.is_holding(peer, id);
        let entry = self.entry(id);
        let header = match (&entry.presence, &content.header) {
            (Presence::Here(index), _) => index.header.clone(),
            (_, Some(header)) => header.clone(),
            // What came before it may bring the header.
            (_, None) if is_holding => {
                return self.hold(peer, content, &Needs::default(), waited);
            }
            (_, None) => return self.ask_for_everything(peer, &content, waited.is_some()),
        };
        if entry.index().is_none() {
            let actual = header_id(&header);
            if actual != id {
                self.report(Report::new(peer, id, Rejection::HeaderMismatch { actual }));
                self.upstream_refused(peer, id);
                let credit = if waited.is_some() { 0 } else { content_credit(&content) };
                return self.release(peer, credit);
            }
        }
        let needs = self.needs(peer, id, &header, &content);
        if !needs.missing.is_empty() || is_holding {
            return self.hold(peer, content, &needs, waited);
        }
        if let Some(content) = self.park_deletion(peer, &header, content, waited) {
            self.accept_content(peer, header, content, waited.is_some());
        }
    }

    /// Content without a header, of a CoValue that is not there.
    fn ask_for_everything(&mut self, peer: PeerId, content: &Content, is_released: bool) {
        self.release(peer, if is_released { 0 } else { content_credit(content) });
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
        if let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) {
            // The rest of what it has announced would be ignored.
            index.expect_nothing_from(peer);
        }
    }

    /// Content whose dependencies are all there.
    fn accept_content(
        &mut self,
        peer: PeerId,
        header: Header,
        content: Content,
        is_released: bool,
    ) {
        let id = content.id;
        if !is_released {
            self.release(peer, frame_credit(&content));
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.merge(content.header.is_some(), &SessionCounts::new());
        }
        let entry = self.entry(id);
        let is_new = entry.index().is_none();
        if is_new {
            let mut index = Index::new(header, SessionCounts::new());
            (index.fresh, index.header_unstored, index.header_durable) = (true, true, false);
            let found = dependencies::of_header(&index.header);
            entry.dependencies.extend(found);
            entry.presence = Presence::Here(Box::new(index));
        }
        if let Some(expected) = &content.expect_content_until
            && self.peers.get(&peer).is_some_and(|state| state.upstream.is_some())
            && let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut)
        {
            index.announce(peer, expected);
        }
        let sent: SessionCounts =
            content.sessions.iter().map(|run| (run.session.clone(), run.end())).collect();
        let mut follows = true;
        for run in content.sessions {
            let credit = if is_released { 0 } else { run_credit(&run) };
            follows &= self.accept_runs(peer, id, vec![run], credit, None);
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
            subscription.owes.add(Owes::CORRECTION);
        }
        self.owe(peer, id);
    }

    /// Takes runs of one session that follow each other; `false` if the first does not follow
    /// what is there.
    fn accept_runs(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        mut runs: Vec<SessionContent>,
        credit: u64,
        signer: Option<SignerId>,
    ) -> bool {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return true };
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return true };
        if let Some(pipeline) = index.pipelines.get_mut(&first.session) {
            let mut credit = credit;
            pipeline.waiting.extend(runs.into_iter().map(|run| {
                let credit = std::mem::take(&mut credit);
                Waiting { peer, run, credit }
            }));
            return true;
        }
        let verified = index.verified().get(&first.session);
        // Content for a deleted CoValue is taken in silence, so that clients that do not know of
        // the deletion stop sending it.
        let quietly = index.deleted && !first.session.is_delete();
        let (session, end) = (first.session.clone(), last.end());
        if first.after > verified && !quietly {
            self.release(peer, credit);
            return false;
        }
        let repeated: Vec<_> = runs.iter().filter(|run| run.after < verified).cloned().collect();
        // An upstream has checked what it sends, and edges hear the same from several of them.
        let is_checked = repeated.iter().all(|run| run.transactions.is_empty())
            || self.peers.get(&peer).is_none_or(|state| state.upstream.is_some());
        if quietly || end <= verified && is_checked {
            self.peer_has(peer, id, &session, end);
            self.release(peer, credit);
            return true;
        }
        runs.retain(|run| run.end() > verified);
        let repeats = self.has_fault(Fault::RepeatKnownPart);
        if let Some(first) = runs.first_mut().filter(|_| !repeats) {
            drop_known_prefix(first, verified);
        }
        let repeated = if is_checked { Vec::new() } else { repeated };
        self.verify(peer, Job { id, session, end, runs, repeated }, credit, signer);
        true
    }

    fn peer_has(&mut self, peer: PeerId, id: CoValueId, session: &SessionId, count: u64) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.merge(true, &SessionCounts::from_iter([(session.clone(), count)]));
        }
    }

    /// Has runs verified that follow what is there, and each other.
    fn verify(&mut self, peer: PeerId, job: Job, credit: u64, signer: Option<SignerId>) {
        let Job { id, session, end, runs, repeated } = job;
        let signer = signer.map_or_else(|| self.signer(&session), Ok);
        let prepared = signer.and_then(|signer| {
            let claim = self.claim(id, &runs)?;
            Ok((signer, claim))
        });
        let (signer, claim) = match prepared {
            Ok(prepared) => prepared,
            Err(rejection) => {
                self.report(Report::new(peer, id, rejection).session(&session));
                self.mark_errored(peer, id);
                return self.release(peer, credit);
            }
        };
        let deletion = claim.as_ref().and_then(|_| self.begin_judging(id, &runs));
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let after = index.verified().get(&session);
        let chain = index.chains.remove(&session).map(|(chain, _)| chain);
        self.warm_chains -= usize::from(chain.is_some());
        index.pipelines.insert(
            session.clone(),
            Pipeline { author: peer, credit, signer, deletion, end, waiting: VecDeque::new() },
        );
        if self.has_fault(Fault::TakeUnverified) {
            let accepted = runs;
            let (chain, rejection) = (None, None);
            return self.verified(Verified { id, session, accepted, chain, rejection });
        }
        let job = VerifyJob { id, session, after, chain, signer, runs, repeated, claim };
        self.actions.push(Action::Verify(job));
    }

    /// Whose signature a session of a CoValue carries.
    fn signer(&self, session: &SessionId) -> Result<SignerId, Rejection> {
        match session.owner() {
            Owner::Agent(agent) => Ok(agent.signer()),
            Owner::Account(account) => self
                .values
                .get(account)
                .and_then(Entry::index)
                .and_then(|index| index.header.account_agent())
                .map(downbeat_protocol::AgentId::signer)
                .ok_or(Rejection::NotAnAccount),
        }
    }

    pub(crate) fn verified(&mut self, result: Verified) {
        let Verified { id, session, accepted, chain, rejection } = result;
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let Some(pipeline) = index.pipelines.get_mut(&session) else { return };
        let (author, credit) = (pipeline.author, std::mem::take(&mut pipeline.credit));
        let deletion = pipeline.deletion.take();
        let deletes = deletion.is_some();
        // What was with the verifier when the CoValue was deleted is dropped as if taken.
        let is_late = index.deleted && !session.is_delete();
        // Of a deleted CoValue the log can no longer be compared with what is sent.
        let rejection = rejection.filter(|_| !is_late);
        let has = if rejection.is_none() { Some(pipeline.end) } else { None };
        let end = accepted.last().map(SessionContent::end);
        if let Some(end) = has.or(end) {
            self.peer_has(author, id, &session, end);
        }
        if let Some(chain) = chain.filter(|_| !is_late) {
            self.keep_chain(id, &session, chain);
        }
        match end.filter(|_| !is_late) {
            Some(end) => self.take_verified(id, end, accepted, deletes, (author, credit)),
            None => self.release(author, credit),
        }
        let rejection = self.end_judging(author, id, deletion, rejection);
        if let Some(mut rejection) = rejection {
            if let Some(at) = self.forked_at(author, id, &session, &rejection) {
                rejection = Rejection::Forked { at };
                // The author did nothing wrong but to lose what it is sent now.
                self.send_again(author, id, &session, at);
            } else {
                self.mark_errored(author, id);
            }
            self.report(Report::new(author, id, rejection).session(&session));
            self.drop_waiting(author, id, &session);
        }
        self.continue_pipeline(id, &session);
        self.after_verification(id);
    }

    /// Runs of a session, up to `end`, are part of the CoValue from now on.
    fn take_verified(
        &mut self,
        id: CoValueId,
        end: u64,
        runs: Vec<SessionContent>,
        deletes: bool,
        release: (PeerId, u64),
    ) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        entry.add_dependencies_of(id, &runs);
        let (Some(index), Some(first)) = (entry.index_mut(), runs.first()) else { return };
        index.advance(&first.session, end);
        if deletes {
            self.warm_chains -= index.chains.len();
            index.delete();
        }
        let ours = index.verified().clone();
        if let Some(subscription) = self.subscription_mut(release.0, id) {
            subscription.share(&ours);
        }
        self.note_unsynced(id);
        self.store(id, runs, deletes, vec![release]);
        self.forward(id);
    }

    /// Drops what a peer has sent of a session behind something bad.
    fn drop_waiting(&mut self, peer: PeerId, id: CoValueId, session: &SessionId) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        let Some(pipeline) = index.pipelines.get_mut(session) else { return };
        let mut credit = 0;
        pipeline.waiting.retain(|waiting| {
            let keep = waiting.peer != peer;
            credit += if keep { 0 } else { waiting.credit };
            keep
        });
        self.release(peer, credit);
    }

    /// Keeps a hash chain, and forgets those that were not used for longest if there are too many.
    fn keep_chain(&mut self, id: CoValueId, session: &SessionId, chain: HashChain) {
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        self.uses += 1;
        let before = index.chains.insert(session.clone(), (chain, self.uses));
        self.warm_chains += usize::from(before.is_none());
        self.chains_used.push_back((id, session.clone(), self.uses));
        while self.warm_chains > self.config.warm_chains {
            let Some((id, session, stamp)) = self.chains_used.pop_front() else { break };
            let index = self.values.get_mut(&id).and_then(Entry::index_mut);
            if let Some(index) = index
                && index.chains.get(&session).is_some_and(|(_, used)| *used == stamp)
            {
                index.chains.remove(&session);
                self.warm_chains -= 1;
            }
        }
        if self.chains_used.len() > 2 * self.warm_chains + MIN_STALE_STAMPS {
            let values = &self.values;
            self.chains_used.retain(|(id, session, stamp)| {
                let index = values.get(id).and_then(Entry::index);
                index
                    .and_then(|index| index.chains.get(session))
                    .is_some_and(|(_, used)| used == stamp)
            });
        }
    }

    /// Where a peer has forked a session, if that is why content is refused.
    fn forked_at(
        &self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
        rejection: &Rejection,
    ) -> Option<u64> {
        let before = self.subscription(peer, id).and_then(Subscription::forked);
        match (rejection, before) {
            (Rejection::Forked { at }, _) => Some(*at),
            (Rejection::BadSignature { .. }, Some((forked, at))) if forked == session => Some(*at),
            _ => None,
        }
    }

    /// A peer turns out to have less of a session than it was believed to have.
    fn send_again(&mut self, peer: PeerId, id: CoValueId, session: &SessionId, from: u64) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.mark_forked(session.clone(), from);
            subscription.lower(session, from);
            self.owe(peer, id);
        }
    }

    /// Goes on with what waited for a session's verification.
    fn continue_pipeline(&mut self, id: CoValueId, session: &SessionId) {
        let drops = self.has_fault(Fault::DropWaiting);
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        // Taken out, so that what waits is not put behind itself.
        let Some(pipeline) = index.pipelines.remove(session) else { return };
        let Pipeline { signer, mut waiting, .. } = pipeline;
        if drops {
            waiting.clear();
        }
        while let Some((peer, runs, credit)) = next_runs(&mut waiting) {
            if !self.accept_runs(peer, id, runs, credit, Some(signer)) {
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
        self.take_parked(id);
        self.look_up_again(id);
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
        let author = releases.first().map(|(peer, _)| *peer);
        index.stores.push_back(releases);
        self.actions.push(Action::Store(StoreJob { id, header, sessions, delete, author }));
    }

    pub(crate) fn stored(&mut self, stored: Stored) {
        let Stored { id, durable, conflict } = stored;
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Some(index) = entry.index_mut() else { return };
        let Some(releases) = index.stores.pop_front() else { return };
        index.settle(&durable);
        index.outdated |= conflict;
        let has_grown = !durable.is_empty();
        // The header goes with the first store.
        let is_first = !std::mem::replace(&mut index.header_durable, true);
        let is_deleted = index.deleted;
        if !index.outdated {
            self.acknowledge(id, &releases);
        }
        if is_first || is_deleted {
            self.owe_what_waited(id);
        }
        let kept = self.has_fault(Fault::KeepCredit);
        for (peer, credit) in releases.into_iter().filter(|_| !kept) {
            self.release(peer, credit);
        }
        if has_grown {
            self.judge_again(id);
        }
        self.take_parked(id);
        self.look_up_again(id);
    }

    /// Looks a CoValue up again if somebody else has written to the same storage, as soon as
    /// nothing more of it is under way.
    fn look_up_again(&mut self, id: CoValueId) {
        let Some(entry) = self.values.get_mut(&id) else { return };
        let Some(index) = entry.index_mut() else { return };
        if !index.outdated || !index.is_settled() {
            return;
        }
        self.warm_chains -= index.chains.len();
        // What was sent may be stored or not: its senders are told what is.
        let unacknowledged = std::mem::take(&mut index.awaiting_ack);
        entry.presence = Presence::Loading;
        self.actions.push(Action::Load(id));
        for (peer, _) in unacknowledged {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.owes.add(Owes::CORRECTION);
            }
            self.wait_for(peer, id);
        }
    }

    /// Owes KNOWN to the authors of what has just been stored, and to those who have sent what is
    /// all there by now.
    fn acknowledge(&mut self, id: CoValueId, authors: &[(PeerId, u64)]) {
        let forgets = self.has_fault(Fault::ForgetAcknowledgement);
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if index.header_unstored || index.outdated || index.awaiting_ack.is_empty() {
            return;
        }
        let all_stored = index.stores.is_empty();
        let mut awaiting = std::mem::take(&mut index.awaiting_ack);
        let mut due: Vec<PeerId> = authors.iter().map(|(peer, _)| *peer).collect();
        awaiting.retain(|(peer, sent)| {
            // A header has no count to go by, so content without transactions waits for all.
            let done = index.is_settled_up_to(sent)
                && (all_stored || !sent.is_empty())
                && !index.is_verifying_for(*peer, sent);
            if done {
                due.push(*peer);
            }
            !done && !forgets
        });
        index.awaiting_ack = awaiting;
        for peer in due {
            if let Some(subscription) = self.subscription_mut(peer, id) {
                subscription.owes.add(Owes::KNOWN);
                self.owe(peer, id);
            }
            self.reconciled(peer, id);
        }
    }

    /// Lets every subscriber have what it lacks now.
    pub(crate) fn forward(&mut self, id: CoValueId) {
        self.watch_upstream(id);
        for number in 0..self.values.subscribers(id).len() {
            let Some(&peer) = self.values.subscribers(id).get(number) else { return };
            if self.subscription(peer, id).is_some_and(|subscription| !subscription.errored) {
                self.owe(peer, id);
            }
        }
    }
}

/// Runs to be verified, which follow what is there and each other.
struct Job {
    id: CoValueId,
    session: SessionId,
    /// The count of the session behind the last run, new or not.
    end: u64,
    runs: Vec<SessionContent>,
    repeated: Vec<SessionContent>,
}

/// Takes the first runs that are from one peer and follow each other, with their credit. A delete
/// session has only one run, so there each is judged by itself.
fn next_runs(waiting: &mut VecDeque<Waiting>) -> Option<(PeerId, Vec<SessionContent>, u64)> {
    let Waiting { peer, run: first, mut credit } = waiting.pop_front()?;
    let mut end = first.end();
    let is_delete = first.session.is_delete();
    let mut runs = vec![first];
    while waiting
        .front()
        .is_some_and(|next| !is_delete && next.peer == peer && next.run.after == end)
        && let Some(next) = waiting.pop_front()
    {
        end = next.run.end();
        credit += next.credit;
        runs.push(next.run);
    }
    Some((peer, runs, credit))
}

fn drop_known_prefix(content: &mut SessionContent, known: u64) {
    let skip = usize::try_from(known.saturating_sub(content.after)).unwrap_or(usize::MAX);
    content.transactions.drain(..skip.min(content.transactions.len()));
    content.after = known;
}

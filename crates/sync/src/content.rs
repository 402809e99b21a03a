//! Content from peers: from the message to runs of transactions that are to be verified.

use downbeat_core::dependencies;
use downbeat_crypto::header_id;
use downbeat_protocol::{
    CoValueId, Content, Header, SessionContent, SessionCounts, SessionId, SignerId,
};

use crate::covalue::{Entry, Index, Presence, Waiting};
use crate::event::{Millis, PeerId};
use crate::faults::Fault;
use crate::holding::Needs;
use crate::machine::Machine;
use crate::report::{Rejection, Report};
use crate::subscription::{Standing, Subscription};
use crate::verifying::Job;

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
/// with [`Action::Release`](crate::Action::Release).
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
        let is_errored = subscription.is_errored();
        let is_first = subscription.standing == Standing::Errored;
        if is_errored {
            subscription.standing = Standing::Ignored;
        }
        self.client_answered(peer, id);
        self.upstream_answered(peer, &content);
        self.compared(peer, id);
        if is_errored {
            if is_first {
                self.report(Report::new(peer, id, Rejection::Errored));
            }
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
                self.refuse_whole(peer, id);
                self.upstream_refused(peer, id);
                let credit = if waited.is_some() { 0 } else { content_credit(&content) };
                return self.release(peer, credit);
            }
        }
        if content.header.is_some()
            && let Some(subscription) = self.subscription_mut(peer, id)
            && subscription.standing == Standing::Refused
        {
            subscription.standing = Standing::Good;
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
        let id = content.id;
        let is_refused = |state: &Subscription| state.standing == Standing::Refused;
        if self.has_fault(Fault::CorrectRefused)
            || !self.subscription(peer, id).is_some_and(is_refused)
        {
            let runs = content.sessions.iter();
            let dropped = runs.map(|run| (run.session.clone(), run.end())).collect();
            self.owe_correction(peer, id, &dropped);
        }
    }

    /// What is malformed is refused, and the rest of the CoValue goes on. One report for each message,
    /// however many of its sessions are malformed: there may be as many as a frame has room for.
    fn report_malformed(&mut self, peer: PeerId, content: &mut Content) {
        let malformed = std::mem::take(&mut content.malformed);
        let [first, others @ ..] = &malformed[..] else { return };
        let text = match others.len() {
            0 => first.error.to_string(),
            others => format!("{}, and {others} more sessions", first.error),
        };
        let report = Report::new(peer, content.id, Rejection::Malformed(text));
        self.report(Report { session: Some(first.session.clone()), ..report });
        for session in malformed.iter().filter_map(|one| SessionId::parse(&one.session).ok()) {
            self.refuse_session(peer, content.id, session);
        }
    }

    /// A CoValue of a peer was refused as a whole.
    pub(crate) fn refuse_whole(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id)
            && !subscription.is_errored()
        {
            subscription.standing = Standing::Refused;
        }
    }

    /// A peer's content of one session was refused. What the peer has announced of it will not come.
    pub(crate) fn refuse_session(&mut self, peer: PeerId, id: CoValueId, session: SessionId) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.refuse_session(session);
        }
        if let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) {
            index.expect_nothing_from(peer);
        }
    }

    pub(crate) fn mark_errored(&mut self, peer: PeerId, id: CoValueId) {
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.standing = Standing::Errored;
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
        if let Some(subscription) =
            self.subscription_mut(peer, id).filter(|subscription| !subscription.is_older())
        {
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
        let mut dropped = Vec::new();
        for run in content.sessions {
            let credit = if is_released { 0 } else { run_credit(&run) };
            let end = (run.session.clone(), run.end());
            if !self.accept_runs(peer, id, vec![run], credit, None) {
                dropped.push(end);
            }
        }
        let Some(index) = self.values.get_mut(&id).and_then(Entry::index_mut) else { return };
        if dropped.is_empty() {
            index.await_ack(peer, &sent);
        } else {
            self.owe_correction(peer, id, &dropped.into_iter().collect());
        }
        if is_new {
            self.release_dependants(id);
        }
        self.after_verification(id, peer);
    }

    /// Corrects a peer, because its content up to these counts was dropped.
    pub(crate) fn owe_correction(&mut self, peer: PeerId, id: CoValueId, dropped: &SessionCounts) {
        if self.has_fault(Fault::OweNoCorrection) {
            return;
        }
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.owe_correction(dropped);
        }
        self.owe(peer, id);
    }

    /// Takes runs of one session that follow each other; `false` if the peer has to be told that
    /// the first does not follow what is there.
    pub(crate) fn accept_runs(
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
            // A peer would answer a correction with what was refused, or forked, once more.
            return self.has_forked(peer, id, &session) || self.has_refused(peer, id, &session);
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
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.take_session(&session);
        }
        self.verify(peer, Job { id, session, end, runs, repeated }, credit, signer);
        true
    }

    /// Whether content of a session was refused from a peer, and nothing of it was taken since.
    fn has_refused(&self, peer: PeerId, id: CoValueId, session: &SessionId) -> bool {
        !self.has_fault(Fault::CorrectRefused)
            && self.subscription(peer, id).is_some_and(|state| state.has_refused(session))
    }

    pub(crate) fn peer_has(
        &mut self,
        peer: PeerId,
        id: CoValueId,
        session: &SessionId,
        count: u64,
    ) {
        if let Some(subscription) =
            self.subscription_mut(peer, id).filter(|subscription| !subscription.is_older())
        {
            subscription.merge(true, &SessionCounts::from_iter([(session.clone(), count)]));
        }
    }
}

fn drop_known_prefix(content: &mut SessionContent, known: u64) {
    let skip = usize::try_from(known.saturating_sub(content.after)).unwrap_or(usize::MAX);
    content.transactions.drain(..skip.min(content.transactions.len()));
    content.after = known;
}

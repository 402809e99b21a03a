//! Event `Received` with content: from the message to runs of transactions to verify.

use downbeat_core::dependencies;
use downbeat_crypto::header_id;
use downbeat_protocol::{Content, Header, SessionCounts, SessionId};

use crate::cost::run_credit;
use crate::event::PeerId;
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;
use crate::rejection::Rejection;
use crate::report::Report;
use crate::state::held::Needs;
use crate::state::index::Index;
use crate::state::pending::PendingContent;
use crate::state::presence::{Change, Presence};

impl Machine {
    pub(in crate::machine) fn received_content(&mut self, peer: PeerId, content: Content) {
        let id = content.id;
        let is_upstream = self.is_upstream(peer);
        let pending = PendingContent::received(peer, content);
        let Some(subscription) = self.track(peer, id) else {
            return self.release(pending.credit);
        };
        // An upstream that sends a CoValue without having been asked is asked first what it has.
        if subscription.is_asked() || !is_upstream {
            subscription.subscribe();
        }
        let is_errored = subscription.standing().is_errored();
        let is_first = is_errored && subscription.ignore_content();
        self.client_answered(peer, id);
        self.upstream_answered(peer, &pending.content);
        self.compared(peer, id);
        if is_errored {
            if is_first {
                self.report(Report::new(peer, id, Rejection::Errored));
            }
            self.upstream_refused(peer, id);
            return self.release(pending.credit);
        }
        self.take_content(pending);
    }

    /// Takes content now, or when it is known whether its CoValue is here.
    pub(in crate::machine) fn take_content(&mut self, mut pending: PendingContent) {
        let (peer, id) = (pending.peer(), pending.id());
        let entry = self.entry(id);
        let is_looked_up = match entry.presence() {
            Presence::Loading | Presence::Unknown(_) => false,
            Presence::Here(index) => !index.is_outdated(),
            Presence::Asking(_) | Presence::Absent => true,
        };
        if !is_looked_up {
            return entry.push_inbox(pending);
        }
        self.report_malformed(peer, &mut pending.content);
        let is_holding = self.is_holding(peer, id);
        let header = match (self.index(id), &pending.content.header) {
            (Some(index), _) => index.header().clone(),
            (None, Some(header)) => header.clone(),
            // The content before it may bring the header.
            (None, None) if is_holding => return self.hold(pending, &Needs::default()),
            (None, None) => return self.ask_for_everything(pending),
        };
        if self.index(id).is_none() {
            let actual = header_id(&header);
            if actual != id {
                self.report(Report::new(peer, id, Rejection::HeaderMismatch { actual }));
                if let Some(subscription) = self.subscription_mut(peer, id) {
                    subscription.refuse();
                }
                self.upstream_refused(peer, id);
                return self.release(pending.credit);
            }
        }
        if pending.content.header.is_some()
            && let Some(subscription) = self.subscription_mut(peer, id)
        {
            subscription.accept_header();
        }
        let needs = self.needs(peer, &header, &pending.content);
        if !needs.missing.is_empty() || is_holding {
            return self.hold(pending, &needs);
        }
        if let Some(pending) = self.park_deletion(&header, pending) {
            self.accept_content(header, pending);
        }
    }

    /// Content without a header, of a CoValue that is not here.
    fn ask_for_everything(&mut self, pending: PendingContent) {
        let (peer, id) = (pending.peer(), pending.id());
        self.release(pending.credit);
        let subscription = self.subscription(peer, id);
        if self.has_bug(InjectedBug::CorrectRefused)
            || !subscription.is_some_and(|subscription| subscription.standing().is_refused())
        {
            let runs = pending.content.sessions.iter();
            let dropped = runs.map(|run| (run.session.clone(), run.end())).collect();
            self.correct(peer, id, &dropped);
        }
    }

    /// Refuses malformed sessions; the rest of the CoValue goes on. There is one report for each
    /// message, because a message may have very many malformed sessions.
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

    /// Accepts content whose dependencies are all here.
    fn accept_content(&mut self, header: Header, pending: PendingContent) {
        let PendingContent { content, mut credit, .. } = pending;
        let (peer, id) = (credit.peer(), content.id);
        if let Some(subscription) = self.subscription_mut(peer, id) {
            subscription.merge_sent(content.header.is_some(), &SessionCounts::new(), None);
        }
        let entry = self.entry(id);
        let is_new = entry.index().is_none();
        if is_new {
            let found = dependencies::of_header(&header);
            entry.add_dependencies(found);
            entry.change(Change::Created(Box::new(Index::created(header))));
        }
        if let Some(expected) = &content.expect_content_until
            && self.is_upstream(peer)
            && let Some(index) = self.index_mut(id)
        {
            index.announce(peer, expected);
        }
        let sent: SessionCounts =
            content.sessions.iter().map(|run| (run.session.clone(), run.end())).collect();
        let mut dropped = Vec::new();
        for run in content.sessions {
            let credit = credit.split(run_credit(&run));
            let end = (run.session.clone(), run.end());
            if !self.accept_runs(id, vec![run], credit, None) {
                dropped.push(end);
            }
        }
        // The rest belongs to the message, and to its malformed sessions.
        self.release(credit);
        let Some(index) = self.index_mut(id) else { return };
        if dropped.is_empty() {
            index.await_ack(peer, &sent);
        } else {
            self.correct(peer, id, &dropped.into_iter().collect());
        }
        if is_new {
            self.release_dependants(id);
        }
        self.after_verification(id, peer);
    }
}

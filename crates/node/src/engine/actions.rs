//! The machine's actions, carried out: handed to the tasks and queues that do the work.

use std::sync::Arc;
use std::time::Instant;

use downbeat_protocol::{CoValueId, Message};
use downbeat_sync::{Action, Event, Overuse, PeerId, Rejection, Report, StoreJob, VerifyJob};
use downbeat_transport::{CloseCode, CloseReason, PeerInfo};
use tracing::warn;

use super::{Connected, Engine};
use crate::link::{Kind, Link};
use crate::source::Source;
use crate::stats::add;

/// Stands for the node itself, where a look-up or a store is for no peer.
const OURSELVES: PeerId = PeerId(u64::MAX);

impl Engine {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Turn { peer, items } => {
                let Some(connected) = self.links.get_mut(&peer) else { return };
                // Where nothing is written any longer, the end of the connection is about to be
                // reported.
                connected.busy = connected.link.turn.put(items);
            }
            Action::AwaitTurn(peer) => {
                let connected = self.links.get(&peer);
                self.fed |= connected.is_some_and(|connected| connected.link.turn.await_end());
            }
            Action::Load(id) => {
                self.under_way += 1;
                let (source, peer) = self.asker(id);
                self.loader.want(id, source, peer);
            }
            Action::Verify(job) => self.verify(job),
            Action::Store(job) => self.store(job),
            Action::Track { id, upstream, synced } => {
                self.writer.track(id, upstream, synced);
            }
            Action::ListUnsynced { upstream, after, limit } => {
                self.loader.list_unsynced(upstream, after, limit);
            }
            Action::ListStored { upstream, after, limit } => {
                self.loader.list_stored(upstream, after, limit);
            }
            Action::Release { peer, bytes } => {
                if let Some(link) = self.link(peer) {
                    link.credit.release(bytes);
                }
            }
            Action::Close { peer, reason } => {
                let Some(Connected { link, .. }) = self.links.get(&peer) else { return };
                add(&self.counters.limits.closed_for_memory, 1);
                let code = match reason {
                    Overuse::Peer { .. } => CloseCode::PolicyViolation,
                    Overuse::AllClients { .. } => CloseCode::TryAgainLater,
                };
                warn!(peer = %link.info.address, "closing: {reason}");
                link.close(CloseReason::new(code, reason.to_string()));
            }
            Action::Report(report) => self.refuse(report),
        }
    }

    fn verify(&mut self, job: VerifyJob) {
        self.under_way += 1;
        self.began.insert((job.id, job.session.clone()), Instant::now());
        let link = self.link(job.author);
        self.verifier.submit(job, link);
    }

    fn store(&mut self, job: StoreJob) {
        self.under_way += 1;
        self.tell_policy(&job);
        let author = job.author.unwrap_or(OURSELVES);
        let link = self.link(author);
        let connected = self.links.get(&author);
        let behind = connected.and_then(|connected| self.policy.account_behind(&connected.link));
        let key = link.and_then(|link| link.key.as_deref());
        self.usage.charge(&job, key, behind);
        let source = Link::source_of(author, link);
        let run = job.sessions.first();
        let began = run.and_then(|run| self.verified.remove(&(job.id, run.session.clone())));
        self.content.add(&job);
        self.writer.store(source, author, job, began);
    }

    /// Reports verified content to the policy. Hands on the content that its sender had to wait
    /// with, if the verified content proves who the sender is.
    fn tell_policy(&mut self, job: &StoreJob) {
        let Some(peer) = job.author else { return };
        let link = self.links.get(&peer).map(|connected| &connected.link);
        if link.is_some_and(|link| !matches!(link.kind, Kind::Client)) {
            return;
        }
        // Also if the peer has left.
        self.policy.count_others(job);
        let Some(link) = link else { return };
        let now = self.now();
        for content in self.policy.verified(link, job) {
            let message = Message::Content(content);
            self.machine.handle(now, Event::Received { peer, message });
            self.fed = true;
        }
    }

    /// Whose share of the look-ups a CoValue is looked up with.
    fn asker(&self, id: CoValueId) -> (Source, PeerId) {
        let peer = self.machine.asker(id).unwrap_or(OURSELVES);
        (Link::source_of(peer, self.link(peer)), peer)
    }

    /// The connection of a peer, which may have left since.
    fn link(&self, peer: PeerId) -> Option<&Arc<Link>> {
        let connected = self.links.get(&peer).map(|connected| &connected.link);
        connected.or_else(|| self.gone.get(peer))
    }

    /// Counts and logs a rejection, and reports it to the author if that is this program.
    fn refuse(&self, report: Report) {
        let Some(Connected { link, .. }) = self.links.get(&report.peer) else {
            return self.counters.rejected(&PeerInfo::new("gone"), &report);
        };
        self.counters.rejected(&link.info, &report);
        match (&link.kind, report.rejection) {
            (Kind::Local(refused), rejection) => {
                refused.send_replace(Some(rejection));
            }
            (Kind::Client, Rejection::TooManySubscriptions) => {
                add(&self.counters.limits.closed_for_subscriptions, 1);
                let text = "more subscriptions than allowed";
                link.close(CloseReason::new(CloseCode::PolicyViolation, text));
            }
            (_, rejection) if is_strike(&rejection) => {
                link.strike(&self.counters.limits, rejection);
            }
            _ => {}
        }
    }
}

/// Whether only a broken or a hostile client causes a rejection.
fn is_strike(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::BadSignature { .. }
        | Rejection::Forked { .. }
        | Rejection::HeaderMismatch { .. }
        | Rejection::NotAnAccount
        | Rejection::InvalidSigner
        | Rejection::InvalidDelete(_) => true,
        // They cost us little, have a limit of their own, or are not the client's fault.
        Rejection::Malformed(_)
        | Rejection::Unreadable
        | Rejection::MissingDependency(_)
        | Rejection::HeldTooMuch
        | Rejection::Errored
        | Rejection::TooManySubscriptions => false,
    }
}

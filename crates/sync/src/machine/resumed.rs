//! Content that has waited: it goes on, or is given up.

use downbeat_protocol::CoValueId;

use crate::event::PeerId;
use crate::machine::Machine;
use crate::machine::backlog::RETRIES_AT_ONCE;
use crate::rejection::Rejection;
use crate::report::Report;
use crate::state::held::HeldQueue;
use crate::state::timers::Timer;

impl Machine {
    /// Takes content that has waited. Content that this releases in turn is put behind it, so that
    /// long chains of dependencies need no stack. What is too much for one event or poll follows
    /// with the next.
    pub(in crate::machine) fn retry_held(&mut self) {
        for _ in 0..RETRIES_AT_ONCE {
            let Some((id, peer)) = self.retries.pop_front() else { return };
            for held in self.take_held(peer, id).into_iter().flat_map(HeldQueue::into_contents) {
                self.take_content(held.pending);
            }
            self.finish_comparisons(id);
        }
    }

    /// Gives up content that has waited too long, and the content behind it, which could not be
    /// taken without it.
    pub(in crate::machine) fn give_up_held(&mut self, id: CoValueId) {
        let now = self.now;
        let Some(entry) = self.values.get_mut(&id) else { return };
        let late = entry.held.late(now);
        for peer in late {
            if self.is_holding_refused(peer, id) {
                self.give_up_refused(peer, id);
                continue;
            }
            let Some(queue) = self.take_held(peer, id) else { continue };
            self.ask_upstream_again(peer, id);
            let missing = queue.missing().next().unwrap_or(id);
            self.report(Report::new(peer, id, Rejection::MissingDependency(missing)));
        }
        if let Some(entry) = self.values.get_mut(&id)
            && let Some(next) = entry.held.next_timer()
        {
            self.timers.set(Timer::HeldContent, id, next);
        }
    }

    /// A peer's refused content remains refused. The content behind it only waited for its turn.
    pub(in crate::machine) fn give_up_refused(&mut self, peer: PeerId, id: CoValueId) {
        for held in self.take_held(peer, id).into_iter().flat_map(HeldQueue::into_contents) {
            match (held.refused, &held.pending.content.sessions[..]) {
                (Some(rejection), [run]) => {
                    self.report(Report::new(peer, id, rejection).session(&run.session));
                }
                _ => self.take_content(held.pending),
            }
        }
    }

    /// Everything of a group is stored: goes on with the deletions that waited for that.
    pub(in crate::machine) fn take_parked(&mut self, group: CoValueId) {
        let Some(index) = self.index_mut(group) else { return };
        for pending in index.take_parked() {
            let id = pending.id();
            self.entry(id).unpark();
            self.take_content(pending);
            self.finish_comparisons(id);
        }
    }

    /// A peer states what it has of a group. If it has no more than is here, its refused deletions
    /// remain refused.
    pub(in crate::machine) fn answered_for_group(&mut self, peer: PeerId, group: CoValueId) {
        for (id, _) in self.refused_by(group).into_iter().filter(|(_, other)| *other == peer) {
            let Some(header) = self.index(id).map(|index| index.header().clone()) else { continue };
            let groups = self.deciding_groups(&header);
            if groups.into_iter().all(|group| self.has_no_more(peer, group)) {
                self.give_up_refused(peer, id);
            }
        }
    }

    /// Goes on with the content that came while storage was asked.
    pub(in crate::machine) fn take_inbox(&mut self, id: CoValueId) {
        for pending in self.entry(id).take_inbox() {
            self.take_content(pending);
        }
    }
}

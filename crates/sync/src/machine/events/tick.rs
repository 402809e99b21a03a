//! Event `Tick`: timers that have expired. They are looked at with every event.

use downbeat_protocol::CoValueId;

use crate::action::Action;
use crate::machine::Machine;
use crate::state::presence::Change;
use crate::state::subscription::PendingReplies;
use crate::state::timers::Timer;

impl Machine {
    pub(in crate::machine) fn tick(&mut self) {
        while let Some((timer, id)) = self.timers.expire(self.now) {
            match timer {
                Timer::StorageRetry => self.retry_storage(id),
                Timer::HeldContent => self.give_up_held(id),
                Timer::UpstreamAnswer => self.give_up_requests(id),
                Timer::Correction => self.enqueue_subscribers(id, |subscription| {
                    subscription.replies.has(PendingReplies::CORRECTION)
                }),
            }
            self.finish_comparisons(id);
        }
    }

    fn retry_storage(&mut self, id: CoValueId) {
        let now = self.now;
        if self.change_presence(id, Change::Retry { now }) {
            self.actions.push(Action::Load(id));
        }
    }
}

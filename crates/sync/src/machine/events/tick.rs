//! Event `Tick`: timers that have expired. They are looked at with every event, so that those that
//! one event leaves are not late.

use downbeat_protocol::CoValueId;

use crate::action::Action;
use crate::machine::Machine;
use crate::state::backlog::Audience;
use crate::state::presence::Change;
use crate::state::timers::Timer;

/// Timers that expire with one event. The others expire with the next, which is due at once.
const TIMERS_AT_ONCE: usize = 256;

impl Machine {
    pub(in crate::machine) fn tick(&mut self) {
        for _ in 0..TIMERS_AT_ONCE {
            let Some((timer, id)) = self.timers.expire(self.now) else { return };
            match timer {
                Timer::StorageRetry => self.retry_storage(id),
                Timer::HeldContent => self.give_up_held(id),
                Timer::UpstreamAnswer => self.give_up_requests(id),
                Timer::Correction => self.enqueue_subscribers(id, Audience::Corrected),
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

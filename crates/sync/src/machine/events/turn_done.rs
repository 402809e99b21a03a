//! Event `TurnDone`: a peer has room for its next turn.

use crate::event::{PeerId, Progress};
use crate::injected_bug::InjectedBug;
use crate::machine::Machine;

impl Machine {
    pub(in crate::machine) fn turn_done(&mut self, peer: PeerId, progress: &[Progress]) {
        self.peers.finish_turn(peer);
        for Progress { id, epoch, header, started, reached, stalled } in progress {
            if self.has_bug(InjectedBug::IgnoreProgress) {
                continue;
            }
            let Some(subscription) = self.subscription_mut(peer, *id) else { continue };
            if subscription.epoch() != *epoch {
                continue;
            }
            subscription.mark_reached(*header, reached, *started);
            if !started {
                // The turn ended before this item, and perhaps before what it depends on.
                subscription.unmark_dependencies_sent();
            }
            if !stalled {
                self.enqueue(peer, *id);
            }
        }
        self.peers.make_ready(peer);
    }
}

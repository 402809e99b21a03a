//! Event `Refused`: the runtime has refused something that a peer has sent.

use downbeat_protocol::CoValueId;

use crate::event::{PeerId, Refusal};
use crate::machine::Machine;
use crate::state::subscription::PendingReplies;

impl Machine {
    pub(in crate::machine) fn refused(&mut self, peer: PeerId, id: CoValueId, refusal: Refusal) {
        match refusal {
            Refusal::Load => {
                if let Some(subscription) = self.track(peer, id) {
                    subscription.replies.add(PendingReplies::NOT_FOUND);
                    self.enqueue(peer, id);
                }
            }
            Refusal::Content => {
                self.upstream_told(peer, id, false);
                self.ask_upstream_again(peer, id);
                if self.is_client(peer)
                    && let Some(subscription) = self.track(peer, id)
                {
                    subscription.replies.add(PendingReplies::NOT_FOUND);
                    subscription.refuse();
                    self.client_answered(peer, id);
                    self.compared(peer, id);
                    self.enqueue(peer, id);
                }
            }
            Refusal::Earlier => {
                if let Some(subscription) = self.track(peer, id) {
                    subscription.refuse();
                }
            }
            Refusal::Session(session) => {
                if self.track(peer, id).is_some() {
                    self.refuse_session(peer, id, session);
                    self.compared(peer, id);
                }
            }
        }
    }
}

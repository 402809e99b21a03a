//! Nodes that refuse content of clients, as the runtime does over a quota. They refuse some
//! CoValues completely, and in others all transactions of a session beyond a limit.

use downbeat_protocol::{CoValueId, Message};
use downbeat_sync::{Event, PeerId, Refusal};

use super::{Kind, World};
use crate::link::{End, Side};

/// The number of transactions that a limited session may have.
const MAX_TAKEN: u64 = 3;

/// The probability that a node remembers its refusals on earlier connections, in percent.
const REMEMBERED: usize = 70;

/// The part of a CoValue that nodes refuse.
enum Quota {
    None,
    Whole,
    Sessions,
}

impl World {
    /// Applies the quotas to a message of a client. Returns the refusals, which the machine gets
    /// first, and the accepted part of the message.
    pub(super) fn refuse(
        &mut self,
        node: usize,
        link: PeerId,
        side: Side,
        message: Message,
    ) -> (Vec<Event>, Option<Message>) {
        let from = self.links.get(&link).map(|link| link.end(side.other()));
        if !self.plan.refusals || !matches!(from, Some(End::Client(_))) {
            return (Vec::new(), Some(message));
        }
        match message {
            Message::Content(mut content) => {
                let id = content.id;
                let refused = match self.quota_of(id) {
                    Quota::Whole if content.header.is_some() => vec![Refusal::Content],
                    Quota::None | Quota::Whole => Vec::new(),
                    Quota::Sessions => {
                        let is_beyond =
                            |run: &downbeat_protocol::SessionContent| run.end() > MAX_TAKEN;
                        let beyond = content.sessions.iter().filter(|run| is_beyond(run));
                        let refused: Vec<Refusal> =
                            beyond.map(|run| Refusal::Session(run.session.clone())).collect();
                        content.sessions.retain(|run| !is_beyond(run));
                        refused
                    }
                };
                let is_whole = refused.contains(&Refusal::Content);
                for refusal in &refused {
                    self.note(|| format!("node {node} refuses {refusal:?} of {id}"));
                    self.refused.insert(id);
                    let kept = if is_whole { Refusal::Earlier } else { refusal.clone() };
                    self.nodes[node].refused.entry(id).or_default().insert(kept);
                }
                let message = (!is_whole).then_some(Message::Content(content));
                (events(link, id, refused), message)
            }
            Message::Load(state) if state.header && self.rng.percent(REMEMBERED) => {
                let refused = self.nodes[node].refused.get(&state.id);
                let refused = refused.into_iter().flatten().cloned().collect();
                (events(link, state.id, refused), Some(Message::Load(state)))
            }
            message => (Vec::new(), Some(message)),
        }
    }

    /// The quota of a CoValue. No other CoValue depends on one with a quota.
    fn quota_of(&self, id: CoValueId) -> Quota {
        let is_limited = |kind| matches!(kind, Kind::Free | Kind::File);
        let known = self.values.iter().position(|known| known.id == id && is_limited(known.kind));
        match known.map(|number| number % 3) {
            Some(0) => Quota::Whole,
            Some(1) => Quota::Sessions,
            _ => Quota::None,
        }
    }
}

fn events(peer: PeerId, id: CoValueId, refused: Vec<Refusal>) -> Vec<Event> {
    refused.into_iter().map(|refusal| Event::Refused { peer, id, refusal }).collect()
}

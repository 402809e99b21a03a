//! Links: connecting, sending, and breaking.

use downbeat_protocol::Message;
use downbeat_sync::PeerId;

use super::{Step, World};
use crate::link::{Dial, End, Link, Side};
use crate::log::describe;

impl World {
    pub(super) fn add_dial(&mut self, from: End, to: usize) {
        let dial = self.dials.len();
        self.dials.push(Dial {
            from,
            to,
            link: None,
            blocked_until: 0,
            waiting: false,
            stopped: false,
        });
        self.dial_later(dial, 0);
    }

    pub(super) fn dial_later(&mut self, dial: usize, delay: u64) {
        let state = &mut self.dials[dial];
        if !state.stopped && state.link.is_none() && !std::mem::replace(&mut state.waiting, true) {
            let delay = delay.max(state.blocked_until.saturating_sub(self.now));
            self.schedule(delay, Step::Dial(dial));
        }
    }

    pub(super) fn dial(&mut self, dial: usize) {
        let Dial { from, to, link, blocked_until, stopped, .. } = self.dials[dial];
        self.dials[dial].waiting = false;
        if stopped || link.is_some() {
            return;
        }
        if let End::Node(node) = from
            && !self.nodes[node].up
        {
            // The node dials again when it starts.
            return;
        }
        if !self.nodes[to].up || blocked_until > self.now {
            return self.dial_later(dial, 20);
        }
        let id = PeerId(self.next_link);
        self.next_link += 1;
        self.links.insert(id, Link::new(from, End::Node(to), dial));
        self.dials[dial].link = Some(id);
        self.note(|| format!("{from:?} and node {to} are connected by link {}", id.0));
        self.node_connected(to, id, None);
        match from {
            End::Node(node) => self.node_connected(node, id, Some(to)),
            End::Client(client) => self.client_connected(client, id),
            End::Liar(_) => {}
        }
    }

    /// Sends a message, if the link is open.
    pub(super) fn send(&mut self, id: PeerId, from: Side, message: Message) {
        let to = from.other();
        let (least, most) = self.plan.delay;
        let delay = self.rng.time(least, most);
        let now = self.now;
        let Some(link) = self.links.get_mut(&id).filter(|link| link.open) else { return };
        let before = &mut link.last[to.index()];
        *before = (*before).max(now + delay);
        let at = *before;
        link.flying[to.index()] += 1;
        let (sender, receiver) = (link.end(from), link.end(to));
        self.note(|| format!("{sender:?} → {receiver:?} #{} {}", id.0, describe(&message)));
        self.schedule(at - now, Step::Deliver { link: id, to, message });
    }

    pub(super) fn deliver(&mut self, id: PeerId, to: Side, message: Message) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.open) else { return };
        link.flying[to.index()] -= 1;
        link.unread[to.index()].push_back(message);
        self.read(id, to);
    }

    pub(super) fn read(&mut self, id: PeerId, side: Side) {
        let Some(link) = self.links.get(&id) else { return };
        if link.ended[side.index()] {
            return;
        }
        match link.end(side) {
            End::Node(node) => self.node_reads(node, id, side),
            End::Client(client) => self.client_reads(client, id, side),
            End::Liar(liar) => self.liar_reads(liar, id, side),
        }
    }

    /// Takes the next message that has arrived.
    pub(super) fn next_unread(&mut self, id: PeerId, side: Side) -> Option<Message> {
        let link = self.links.get_mut(&id)?;
        let message = link.unread[side.index()].pop_front()?;
        let reader = link.end(side);
        self.note(|| format!("{reader:?} reads #{} {}", id.0, describe(&message)));
        Some(message)
    }

    /// Breaks a link: no more messages arrive, and each side notices after at most `longest`.
    pub(super) fn cut(&mut self, id: PeerId, longest: u64) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.open) else { return };
        link.open = false;
        self.note(|| format!("link {} breaks", id.0));
        for side in [Side::Dialler, Side::Acceptor] {
            let delay = self.rng.time(0, longest);
            self.schedule(delay, Step::Lost { link: id, side });
        }
    }

    /// Tells a side that a link has ended.
    pub(super) fn lost(&mut self, id: PeerId, side: Side) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if std::mem::replace(&mut link.ended[side.index()], true) {
            return;
        }
        let (end, dial) = (link.end(side), link.dial);
        if link.ended == [true; 2] {
            self.links.remove(&id);
        }
        match end {
            End::Node(node) => self.node_disconnected(node, id),
            End::Client(client) => self.client_disconnected(client, id),
            End::Liar(_) => {}
        }
        if side == Side::Dialler {
            self.dials[dial].link = None;
            let delay = self.rng.time(0, 200);
            self.dial_later(dial, delay);
        }
    }
}

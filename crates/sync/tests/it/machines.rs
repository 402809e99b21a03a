//! Several machines that talk to each other.

use downbeat_protocol::Message;
use downbeat_sync::{Config, PeerId};

use crate::world::World;

/// After this many messages, machines that still talk count as never coming to rest.
const MAX_MESSAGES: usize = 10_000;

const NAMES: [&str; 3] = ["w0", "w1", "w2"];

/// Machines in a ring, each a client of the next.
pub(crate) struct Ring {
    pub worlds: Vec<World>,
    /// The destination of the messages that one machine sends to a peer.
    wires: Vec<((usize, PeerId), (usize, PeerId))>,
    /// The connections: the client, and the machine that serves it.
    joined: Vec<(usize, usize)>,
    /// Content messages that went between machines.
    pub contents: usize,
}

impl Ring {
    /// Machines that are not connected.
    pub(crate) fn apart(size: usize, config: Config) -> Self {
        Self {
            worlds: (0..size).map(|_| World::with_config(config)).collect(),
            wires: Vec::new(),
            joined: Vec::new(),
            contents: 0,
        }
    }

    pub(crate) fn of(size: usize) -> Self {
        let mut ring = Self::apart(size, Config::default());
        (0..size).for_each(|from| ring.join(from, (from + 1) % size));
        ring.run();
        ring
    }

    /// Machines in a row, each a client of the next.
    pub(crate) fn row(size: usize) -> Self {
        let mut row = Self::apart(size, Config::default());
        (1..size).for_each(|to| row.join(to - 1, to));
        row.run();
        row
    }

    pub(crate) fn join(&mut self, from: usize, to: usize) {
        self.worlds[from].wire_next();
        let up = self.worlds[from].connect_upstream(NAMES[to]);
        self.worlds[to].wire_next();
        let down = self.worlds[to].connect(NAMES[from]);
        self.joined.push((from, to));
        self.wires.push(((from, up), (to, down)));
        self.wires.push(((to, down), (from, up)));
    }

    pub(crate) fn are_joined(&self, from: usize, to: usize) -> bool {
        self.joined.contains(&(from, to))
    }

    /// Ends all connections between two machines, and loses the messages in flight.
    pub(crate) fn part(&mut self, from: usize, to: usize) {
        self.cut(|end, other| (end, other) == (from, to) || (end, other) == (to, from));
    }

    /// Ends the connections of a machine and starts it again with what it has stored.
    pub(crate) fn restart(&mut self, number: usize) {
        self.cut(|end, other| end == number || other == number);
        self.worlds[number].restart();
    }

    fn cut(&mut self, is_cut: impl Fn(usize, usize) -> bool) {
        self.joined.retain(|(from, to)| !is_cut(*from, *to));
        let wires = std::mem::take(&mut self.wires);
        let (gone, left) =
            wires.into_iter().partition(|((end, _), (other, _))| is_cut(*end, *other));
        self.wires = left;
        let gone: Vec<((usize, PeerId), (usize, PeerId))> = gone;
        for ((end, peer), _) in gone {
            self.worlds[end].disconnect(peer);
            self.worlds[end].outbox.retain(|(to, _)| *to != peer);
        }
    }

    /// Carries the next message of a machine, if it has any.
    pub(crate) fn carry(&mut self, number: usize) -> bool {
        let Some((peer, message)) = self.worlds[number].outbox.pop_front() else { return false };
        self.contents += usize::from(matches!(message, Message::Content(_)));
        let wire = self.wires.iter().find(|(end, _)| *end == (number, peer));
        let (_, (to, peer)) = *wire.expect("what is sent to a machine has a wire");
        self.worlds[to].send(peer, message);
        true
    }

    /// Carries messages until no machine has any more.
    pub(crate) fn run(&mut self) -> usize {
        for count in 0..MAX_MESSAGES {
            if !(0..self.worlds.len()).any(|number| self.carry(number)) {
                return count;
            }
        }
        panic!("the machines never come to rest");
    }

    pub(crate) fn pass(&mut self, time: u64) {
        for world in &mut self.worlds {
            world.pass(time);
        }
        self.run();
    }
}

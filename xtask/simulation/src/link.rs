//! Connections between two parties. Messages are delayed and keep their order. A broken link loses
//! the messages in flight.

use std::collections::VecDeque;

use downbeat_protocol::Message;
use downbeat_sync::{Millis, PeerId};

/// The number of messages in flight or unread on one side of a link at which the sender must wait.
pub(crate) const WINDOW: usize = 8;

/// A node or a client at the end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Node(usize),
    Client(usize),
    Liar(usize),
}

/// One of the two ends: the one that dialled, or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Dialler => 0,
            Self::Acceptor => 1,
        }
    }
}

/// A client or a node that connects to a node, and reconnects when the link breaks.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub from: End,
    pub to: usize,
    pub link: Option<PeerId>,
    /// No connection is made before this time.
    pub blocked_until: Millis,
    /// Whether an attempt is scheduled.
    pub waiting: bool,
    /// Whether it has stopped connecting.
    pub stopped: bool,
}

/// A connection. Both ends identify it by the same number, which is never reused.
#[derive(Debug)]
pub(crate) struct Link {
    pub ends: [End; 2],
    pub dial: usize,
    pub open: bool,
    /// The arrival time of the last message to each side.
    pub last: [Millis; 2],
    /// The number of messages in flight to each side.
    pub flying: [usize; 2],
    /// Messages that have arrived at each side and are unread.
    pub unread: [VecDeque<Message>; 2],
    /// Whether each side knows that the link has ended.
    pub ended: [bool; 2],
}

impl Link {
    pub(crate) fn new(from: End, to: End, dial: usize) -> Self {
        Self {
            ends: [from, to],
            dial,
            open: true,
            last: [0; 2],
            flying: [0; 2],
            unread: [VecDeque::new(), VecDeque::new()],
            ended: [false; 2],
        }
    }

    pub(crate) fn end(&self, side: Side) -> End {
        self.ends[side.index()]
    }

    /// The side of a party.
    pub(crate) fn side_of(&self, end: End) -> Side {
        if self.ends[0] == end { Side::Dialler } else { Side::Acceptor }
    }

    /// Whether the sender to this side must wait.
    pub(crate) fn is_full(&self, side: Side) -> bool {
        self.flying[side.index()] + self.unread[side.index()].len() >= WINDOW
    }
}

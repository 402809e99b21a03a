//! The peers that are subscribed to one CoValue.

use std::slice;

use rustc_hash::FxHashMap;

use crate::event::PeerId;

/// From how many subscribers on their positions are kept. Below that, looking through the list is
/// faster and smaller.
const INDEXED_FROM: usize = 32;

/// Peers, each once. Most CoValues that are not in memory have one.
///
/// They are in the order of subscribing until one leaves: the last one takes its place, so that
/// leaving costs the same however many there are.
#[derive(Default)]
pub(crate) enum Subscribers {
    #[default]
    None,
    One(PeerId),
    Several(Box<Several>),
}

#[derive(Default)]
pub(crate) struct Several {
    list: Vec<PeerId>,
    /// The position of each in the list, once there are many.
    positions: FxHashMap<PeerId, usize>,
}

impl Subscribers {
    pub(crate) fn as_slice(&self) -> &[PeerId] {
        match self {
            Self::None => &[],
            Self::One(peer) => slice::from_ref(peer),
            Self::Several(peers) => &peers.list,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Adds a peer that is not here yet.
    pub(crate) fn add(&mut self, peer: PeerId) {
        match self {
            Self::None => *self = Self::One(peer),
            Self::One(first) => {
                let list = vec![*first, peer];
                *self = Self::Several(Box::new(Several { list, positions: FxHashMap::default() }));
            }
            Self::Several(peers) => peers.add(peer),
        }
    }

    pub(crate) fn remove(&mut self, peer: PeerId) {
        match self {
            Self::One(only) if *only == peer => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Several(peers) => {
                peers.remove(peer);
                if let [only] = peers.list[..] {
                    *self = Self::One(only);
                }
            }
        }
    }
}

impl Several {
    fn add(&mut self, peer: PeerId) {
        self.list.push(peer);
        if !self.positions.is_empty() {
            self.positions.insert(peer, self.list.len() - 1);
        } else if self.list.len() >= INDEXED_FROM {
            self.positions =
                self.list.iter().enumerate().map(|(position, peer)| (*peer, position)).collect();
        }
    }

    fn remove(&mut self, peer: PeerId) {
        let position = if self.positions.is_empty() {
            self.list.iter().position(|other| *other == peer)
        } else {
            self.positions.remove(&peer)
        };
        let Some(position) = position else { return };
        self.list.swap_remove(position);
        if let (Some(moved), false) = (self.list.get(position), self.positions.is_empty()) {
            self.positions.insert(*moved, position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_takes_the_place_of_one_that_leaves() {
        let mut subscribers = Subscribers::default();
        for peer in [7, 3, 5, 9] {
            subscribers.add(PeerId(peer));
        }
        assert_eq!(subscribers.as_slice(), [7, 3, 5, 9].map(PeerId));
        subscribers.remove(PeerId(3));
        subscribers.remove(PeerId(4));
        assert_eq!(subscribers.as_slice(), [7, 9, 5].map(PeerId));
        for peer in [5, 9] {
            subscribers.remove(PeerId(peer));
        }
        assert_eq!(subscribers.as_slice(), [PeerId(7)]);
        subscribers.remove(PeerId(7));
        assert!(subscribers.is_empty());
    }

    #[test]
    fn each_of_many_is_found_again() {
        let mut subscribers = Subscribers::default();
        let mut expected = Vec::new();
        for number in 0..1_000 {
            subscribers.add(PeerId(number));
            expected.push(PeerId(number));
            // Some leave on the way, above and below the bound for keeping positions.
            if number % 3 == 0 {
                let leaves = expected.swap_remove(expected.len() / 2);
                subscribers.remove(leaves);
            }
            assert_eq!(subscribers.as_slice(), expected);
        }
        while let Some(peer) = expected.first().copied() {
            subscribers.remove(peer);
            expected.swap_remove(0);
            assert_eq!(subscribers.as_slice(), expected);
        }
    }
}

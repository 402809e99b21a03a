//! Peers that have left, while some of their content is still on its way.

use std::collections::VecDeque;
use std::sync::Arc;

use downbeat_sync::PeerId;
use rustc_hash::FxHashMap;

use crate::link::Link;

/// Peers that are kept at least. Those with content on its way are kept in any case: their credit
/// bounds them.
const KEPT: usize = 1_000;

/// Peers that have left: what is stored of theirs counts for their access keys, and their credit
/// comes back to the pool when their content is stored.
#[derive(Default)]
pub(crate) struct Gone {
    links: FxHashMap<PeerId, Arc<Link>>,
    /// The earliest first.
    order: VecDeque<PeerId>,
}

impl Gone {
    /// A peer has left.
    pub(crate) fn add(&mut self, link: Arc<Link>) {
        if link.key.is_none() && link.credit.is_settled() {
            return;
        }
        self.order.push_back(link.peer);
        self.links.insert(link.peer, link);
        // At most two for each that comes, so that this takes no longer the more there are.
        for _ in 0..2 {
            if self.order.len() <= KEPT {
                return;
            }
            let Some(peer) = self.order.pop_front() else { return };
            if self.links.get(&peer).is_some_and(|link| link.credit.is_settled()) {
                self.links.remove(&peer);
            } else {
                self.order.push_back(peer);
            }
        }
    }

    /// A peer that has left, if it is still known.
    pub(crate) fn get(&self, peer: PeerId) -> Option<&Arc<Link>> {
        self.links.get(&peer)
    }
}

//! Nodes that lose data: their storage is empty, or an older copy, when they start again. What they
//! had acknowledged comes back from the clients that are connected.

use std::sync::Arc;

use downbeat_storage::MemoryStorage;

use super::World;

impl World {
    /// A node has stopped: its storage may be lost, or copied for later.
    pub(super) fn lose_data(&mut self, node: usize) {
        if self.plan.losses == 0 || !self.plan.may_lose(node) {
            return;
        }
        if self.rng.percent(self.plan.losses) {
            let backup = self.nodes[node].backup.take().filter(|_| self.rng.percent(50));
            let kind = if backup.is_some() { "older" } else { "empty" };
            self.note(|| format!("node {node} has lost data: its storage is {kind}"));
            self.nodes[node].storage = backup.unwrap_or_else(|| Arc::new(MemoryStorage::new()));
        } else {
            match self.nodes[node].storage.snapshot() {
                Ok(copy) => self.nodes[node].backup = Some(Arc::new(copy)),
                Err(_) => self.fail(|| "a storage in memory does not fail".to_owned()),
            }
        }
    }
}

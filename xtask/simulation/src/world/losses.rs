//! Nodes that lose data: after a restart their storage is empty or an older copy. Connected clients
//! then send the lost content again.

use std::sync::Arc;

use downbeat_storage::MemoryStorage;

use super::World;

impl World {
    /// Loses the storage of a stopped node, or copies it for later, at random.
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
                Err(_) => self.fail(|| "the storage in memory has failed".to_owned()),
            }
        }
    }
}

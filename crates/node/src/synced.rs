//! Waiting until upstreams have acknowledged a CoValue.

use downbeat_protocol::{CoValueId, KnownState};
use downbeat_sync::{Event, Machine};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

/// Number of waits after which abandoned ones are removed. It is done again when the number has
/// doubled.
const MIN_WAITS: usize = 64;

/// Callers that wait until upstreams have a certain state of a CoValue.
#[derive(Default)]
pub(crate) struct SyncWaits {
    by_id: FxHashMap<CoValueId, Vec<(KnownState, oneshot::Sender<()>)>>,
    /// Waits added since abandoned ones were removed.
    added: usize,
    /// Number of waits that were left then.
    left: usize,
}

impl SyncWaits {
    /// Answers when the upstreams have this much.
    pub(crate) fn add(&mut self, state: KnownState, done: oneshot::Sender<()>) {
        if self.added >= self.left.max(MIN_WAITS) {
            self.by_id.retain(|_, waits| {
                waits.retain(|(_, done)| !done.is_closed());
                !waits.is_empty()
            });
            self.left = self.by_id.values().map(Vec::len).sum();
            self.added = 0;
        }
        self.added += 1;
        self.by_id.entry(state.id).or_default().push((state, done));
    }

    /// The CoValue of an event, if a wait depends on it.
    pub(crate) fn awaited(&self, event: &Event) -> Option<CoValueId> {
        if self.by_id.is_empty() {
            return None;
        }
        let id = match event {
            Event::Received { message, .. } => message.co_value()?,
            Event::Verified(verified) => verified.id,
            Event::Stored(stored) => stored.id,
            _ => return None,
        };
        self.by_id.contains_key(&id).then_some(id)
    }

    /// Ends the waits for a CoValue whose state the upstreams have by now.
    pub(crate) fn answer(&mut self, id: CoValueId, machine: &Machine) {
        let Some(waits) = self.by_id.get_mut(&id) else { return };
        for (_, done) in waits.extract_if(.., |(state, _)| machine.is_synced(state)) {
            // The caller may have given up.
            let _ = done.send(());
        }
        if waits.is_empty() {
            self.by_id.remove(&id);
        }
    }
}

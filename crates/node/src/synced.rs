//! Waiting until upstreams have acknowledged a CoValue.

use downbeat_protocol::{CoValueId, KnownState};
use downbeat_sync::{Event, Machine};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

/// Waits that are kept before those that were given up are looked for. They are looked for again
/// when as many have been added as were left.
const MIN_WAITS: usize = 64;

/// Those who wait until upstreams have as much of a CoValue as they say.
#[derive(Default)]
pub(crate) struct SyncWaits {
    by_id: FxHashMap<CoValueId, Vec<(KnownState, oneshot::Sender<()>)>>,
    /// Waits added since those that were given up have been dropped.
    added: usize,
    /// How many were left then.
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

    /// The CoValue that somebody waits for and that an event may tell something of.
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

    /// Answers those who wait for a CoValue, if what they wait for is true by now.
    pub(crate) fn answer(&mut self, id: CoValueId, machine: &Machine) {
        let Some(waits) = self.by_id.get_mut(&id) else { return };
        for (_, done) in waits.extract_if(.., |(state, _)| machine.is_synced(state)) {
            // Whoever gave up waiting needs no answer.
            let _ = done.send(());
        }
        if waits.is_empty() {
            self.by_id.remove(&id);
        }
    }
}

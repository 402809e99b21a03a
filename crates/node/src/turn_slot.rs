//! The place where the engine puts a turn for the writing half of a connection.

use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use downbeat_sync::{Item, PeerId};
use futures_util::task::AtomicWaker;

use crate::lock::lock;

/// The turn of one peer, who has one at a time.
///
/// Most turns end without anything that waits for it. Then the writing half only notes the end in
/// [`FinishedTurns`], and the engine looks there when it runs for another reason. Most often
/// that is the peer's acknowledgement.
#[derive(Default)]
pub(crate) struct TurnSlot {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct State {
    turn: Option<Vec<Item>>,
    /// Whether the engine has no more turns, or nothing is written any longer.
    is_closed: bool,
    /// Whether the engine wants to be woken at the end of the turn.
    is_awaited: bool,
    /// Whether the end of the turn is noted.
    is_finished: bool,
}

/// The peers whose turns have ended, as far as the engine does not know it.
#[derive(Default)]
pub(crate) struct FinishedTurns(Mutex<Vec<PeerId>>);

/// The end of the writing half.
pub(crate) struct Turns<'a>(&'a TurnSlot);

impl TurnSlot {
    /// The end of the writing half. When it is dropped, nothing is kept in the slot any longer.
    pub(crate) fn receiver(&self) -> Turns<'_> {
        Turns(self)
    }

    /// Hands a turn to the writing half, and returns whether there still is one.
    pub(crate) fn put(&self, items: Vec<Item>) -> bool {
        {
            let mut state = self.state();
            if state.is_closed {
                return false;
            }
            state.turn = Some(items);
            (state.is_awaited, state.is_finished) = (false, false);
        }
        self.waker.wake();
        true
    }

    /// The engine waits for the end of the turn. Returns whether it is noted already.
    pub(crate) fn await_end(&self) -> bool {
        let mut state = self.state();
        state.is_awaited = true;
        state.is_finished
    }

    /// There are no more turns.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.waker.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Turns<'_> {
    /// The next turn. `None` if there are no more.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<Item>>> {
        // First, so that a turn that comes after the look wakes the task.
        self.0.waker.register(cx.waker());
        let mut state = self.0.state();
        match state.turn.take() {
            Some(items) => Poll::Ready(Some(items)),
            None if state.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The turn has ended: notes it, unless the engine waits for it. Returns whether it does.
    pub(crate) fn finish(&self, peer: PeerId, finished: &FinishedTurns) -> bool {
        let mut state = self.0.state();
        if !state.is_awaited {
            // Under the lock, so that the engine finds the note of each finished turn.
            finished.note(peer);
            state.is_finished = true;
        }
        state.is_awaited
    }
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        state.turn = None;
    }
}

impl FinishedTurns {
    fn note(&self, peer: PeerId) {
        lock(&self.0).push(peer);
    }

    /// Moves all notes to the end of a list.
    pub(crate) fn take(&self, peers: &mut Vec<PeerId>) {
        peers.append(&mut lock(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    const PEER: PeerId = PeerId(7);

    fn finished(list: &FinishedTurns) -> Vec<PeerId> {
        let mut peers = Vec::new();
        list.take(&mut peers);
        peers
    }

    fn next(turns: &Turns<'_>) -> Poll<Option<Vec<Item>>> {
        turns.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_turn_that_nothing_waits_for_is_noted() {
        let (slot, list) = (TurnSlot::default(), FinishedTurns::default());
        let turns = slot.receiver();
        slot.put(Vec::new());
        assert!(matches!(next(&turns), Poll::Ready(Some(_))));
        assert!(next(&turns).is_pending());
        assert!(!turns.finish(PEER, &list));
        assert!(slot.await_end(), "it is noted already");
        assert_eq!(finished(&list), [PEER]);
        assert!(finished(&list).is_empty());
    }

    #[test]
    fn a_turn_that_the_engine_waits_for_is_not_noted() {
        let (slot, list) = (TurnSlot::default(), FinishedTurns::default());
        let turns = slot.receiver();
        slot.put(Vec::new());
        assert!(!slot.await_end(), "it is being written");
        assert!(turns.finish(PEER, &list));
        assert!(finished(&list).is_empty());
        slot.put(Vec::new());
        assert!(!turns.finish(PEER, &list), "nothing waits for the next turn");
    }

    #[test]
    fn the_last_turn_is_written_before_the_end() {
        let slot = TurnSlot::default();
        let turns = slot.receiver();
        slot.put(Vec::new());
        slot.close();
        assert!(matches!(next(&turns), Poll::Ready(Some(_))));
        assert!(matches!(next(&turns), Poll::Ready(None)));
    }

    #[tokio::test]
    async fn a_turn_and_the_end_wake_the_writing_half() {
        let slot = TurnSlot::default();
        let turns = slot.receiver();
        // The writing half is polled first, and then only when it is woken.
        let writer = async { poll_fn(|cx| turns.poll_next(cx)).await.is_some() };
        assert!(tokio::join!(writer, async { slot.put(Vec::new()) }).0);
        let writer = async { poll_fn(|cx| turns.poll_next(cx)).await.is_some() };
        assert!(!tokio::join!(writer, async { slot.close() }).0);
    }

    #[test]
    fn nothing_is_kept_for_a_connection_that_has_ended() {
        let slot = TurnSlot::default();
        let turns = slot.receiver();
        assert!(slot.put(Vec::new()));
        drop(turns);
        assert!(slot.state().turn.is_none(), "a turn that was not taken");
        assert!(!slot.put(Vec::new()));
        assert!(slot.state().turn.is_none(), "a turn that came afterwards");
    }
}

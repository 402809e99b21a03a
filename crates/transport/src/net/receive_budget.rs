//! The memory for messages that have arrived in part, shared by all connections.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The bytes of a message that every connection may have outside of the budget. Most messages are
/// shorter, so they never wait.
pub const FREE_BYTES: usize = 16 << 10;

/// A share grows in steps of this size, so that a long message does not come here for each read.
const STEP_BYTES: usize = 64 << 10;

/// The default budget: eight of the longest messages, or a thousand of usual length.
const DEFAULT_BYTES: usize = 256 << 20;

/// How long connections wait before others lose their share. Longer than the pauses of a message
/// that is on its way, and shorter than the 10 s after which clients give a silent server up.
const PATIENCE: Duration = Duration::from_secs(2);

/// The interval of later attempts, while connections still wait.
const RETRY: Duration = Duration::from_millis(100);

/// A bound on the memory for messages that have arrived in part.
///
/// A peer can send most of a long message and then nothing. Each connection may have 16 KiB of such
/// a message, and what the next read brings, at most 16 KiB; before it reads more, it takes a share
/// of this budget for what is beyond the first 16 KiB, in steps, as the message grows. While
/// the budget is used up, a connection that needs more is not read. If it waits for two seconds,
/// the messages that have occupied the most memory for the longest time are given up, until there
/// is room: their connections are closed with code 1013 ("try again later"). The time in which a
/// connection was not read does not count.
///
/// The share of a complete message is returned when its receiver is called again, so that it also
/// covers a message that waits in the caller.
#[derive(Debug)]
pub struct ReceiveBudget {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    next_id: u64,
    shares: BTreeMap<u64, Share>,
    /// The shares that wait for more, first come first served.
    waiting: VecDeque<u64>,
    /// When the last share was taken away.
    displaced_at: Option<Instant>,
}

/// The memory of one message.
#[derive(Debug)]
struct Share {
    held: usize,
    /// The bytes that it waits for.
    wants: usize,
    waker: Option<Waker>,
    /// Whether the message is incomplete, and its sender could continue it.
    is_partial: bool,
    is_displaced: Arc<AtomicBool>,
    /// The time of the last change.
    changed: Instant,
    /// For how long the sender could have continued the message, and the sum of the bytes held in
    /// each millisecond of it.
    open: Duration,
    occupied: u128,
}

impl Default for ReceiveBudget {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

impl ReceiveBudget {
    /// A budget of `bytes`. A longer message can still be received while it is the only one.
    pub fn new(bytes: usize) -> Self {
        Self { limit: bytes, state: Mutex::default() }
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// Nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a [`ReceiveBudget`] that one connection has. Returned when it is dropped.
#[derive(Debug)]
pub struct ReceiveShare {
    budget: Arc<ReceiveBudget>,
    /// The share in the budget, once there is one.
    taken: Option<Taken>,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Taken {
    id: u64,
    held: usize,
    is_displaced: Arc<AtomicBool>,
}

/// The message was given up, because others waited for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Displaced;

impl ReceiveShare {
    /// An empty share.
    pub fn new(budget: Arc<ReceiveBudget>) -> Self {
        Self { budget, taken: None, timer: None }
    }

    /// Ready once there is room for this much of a message. Does nothing if there is already.
    pub fn poll_reserve(
        &mut self,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Displaced>> {
        let beyond = bytes.saturating_sub(FREE_BYTES);
        loop {
            if self.is_displaced() {
                return Poll::Ready(Err(Displaced));
            }
            if beyond <= self.taken.as_ref().map_or(0, |taken| taken.held) {
                return Poll::Ready(Ok(()));
            }
            let mut state = self.budget.lock();
            let taken = self.taken.get_or_insert_with(|| state.begin());
            taken.held = state.ask(taken.id, beyond, self.budget.limit, cx);
            if beyond <= taken.held {
                self.timer = None;
                continue;
            }
            drop(state);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset(Instant::now() + RETRY);
            self.budget.lock().displace(self.budget.limit);
        }
    }

    /// Call this when reading waits for the sender of an incomplete message, so that the task is
    /// woken if its share is taken away.
    pub fn wait_for_sender(&mut self, cx: &Context<'_>) -> Result<(), Displaced> {
        let Some(taken) = &self.taken else { return Ok(()) };
        self.budget.lock().set_waker(taken.id, cx);
        if self.is_displaced() { Err(Displaced) } else { Ok(()) }
    }

    /// Whether the share was taken away: the message must be given up.
    fn is_displaced(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.is_displaced.load(Ordering::Acquire))
    }

    /// Call this when the message is complete. The share stays, but cannot be taken away.
    pub fn complete(&mut self) {
        if let Some(taken) = &self.taken {
            self.budget.lock().complete(taken.id);
        }
    }

    /// Returns the share, when nothing is left of the message.
    pub fn release(&mut self) {
        self.timer = None;
        if let Some(taken) = self.taken.take() {
            self.budget.lock().end(taken.id, self.budget.limit);
        }
    }
}

impl Drop for ReceiveShare {
    fn drop(&mut self) {
        self.release();
    }
}

impl State {
    fn begin(&mut self) -> Taken {
        let id = self.next_id;
        self.next_id += 1;
        let is_displaced = Arc::<AtomicBool>::default();
        let share = Share {
            held: 0,
            wants: 0,
            waker: None,
            is_partial: true,
            is_displaced: Arc::clone(&is_displaced),
            changed: Instant::now(),
            open: Duration::ZERO,
            occupied: 0,
        };
        self.shares.insert(id, share);
        Taken { id, held: 0, is_displaced }
    }

    /// Asks for room for `bytes` in a share. Returns the room that it has now. If that is less, its
    /// task is woken when there is more.
    fn ask(&mut self, id: u64, bytes: usize, limit: usize, cx: &Context<'_>) -> usize {
        let Some(share) = self.shares.get_mut(&id) else { return 0 };
        if share.held < bytes && share.wants == 0 {
            share.account(Instant::now());
            share.wants = (bytes - share.held).next_multiple_of(STEP_BYTES);
            self.waiting.push_back(id);
        }
        share.set_waker(cx);
        self.grant(limit);
        self.shares.get(&id).map_or(0, |share| share.held)
    }

    /// Gives room to those who wait, as far as there is some.
    fn grant(&mut self, limit: usize) {
        while let Some(share) = self.waiting.front().and_then(|id| self.shares.get_mut(id)) {
            let room = limit.saturating_sub(self.used);
            // A message that is alone may always continue.
            if room < share.wants && self.used > share.held {
                return;
            }
            share.account(Instant::now());
            self.used += share.wants;
            share.held += std::mem::take(&mut share.wants);
            share.wake();
            self.waiting.pop_front();
        }
    }

    fn set_waker(&mut self, id: u64, cx: &Context<'_>) {
        if let Some(share) = self.shares.get_mut(&id) {
            share.set_waker(cx);
        }
    }

    fn complete(&mut self, id: u64) {
        if let Some(share) = self.shares.get_mut(&id) {
            share.is_partial = false;
            share.is_displaced.store(false, Ordering::Release);
        }
    }

    fn end(&mut self, id: u64, limit: usize) {
        if let Some(share) = self.shares.remove(&id) {
            self.used -= share.held;
            if share.wants > 0 {
                self.waiting.retain(|waiting| *waiting != id);
            }
            self.grant(limit);
        }
    }

    /// Takes shares away until those who wait could have what they want: those that have occupied the
    /// most come first. Shares that have been open for less than the patience are spared, because
    /// their messages are on their way. If all wait for each other, one gives way.
    fn displace(&mut self, limit: usize) {
        let now = Instant::now();
        if self.displaced_at.is_some_and(|at| now < at + RETRY) {
            return;
        }
        let wanted: usize =
            self.waiting.iter().filter_map(|id| self.shares.get(id)).map(|s| s.wants).sum();
        let leaving = self.shares.values().filter(|share| share.is_leaving());
        let room = limit.saturating_sub(self.used) + leaving.map(|share| share.held).sum::<usize>();
        let mut lacking = wanted.saturating_sub(room);
        let mut candidates: Vec<_> = self
            .shares
            .values_mut()
            .filter(|share| share.is_partial && share.held > 0 && !share.is_leaving())
            .collect();
        for share in &mut candidates {
            share.account(now);
        }
        candidates.sort_by_key(|share| std::cmp::Reverse(share.occupied));
        let is_stuck = candidates.iter().all(|share| share.wants > 0);
        let mut count = 0_u64;
        for share in candidates {
            if lacking == 0 {
                break;
            }
            if is_stuck || share.open >= PATIENCE {
                share.is_displaced.store(true, Ordering::Release);
                share.wake();
                lacking = if is_stuck { 0 } else { lacking.saturating_sub(share.held) };
                count += 1;
            }
        }
        if count > 0 {
            self.displaced_at = Some(now);
            tracing::warn!(
                count,
                "connections closed that had sent a part of a message and kept others waiting for \
                 memory; raise `--memory-budget` if they are clients of yours"
            );
        }
    }
}

impl Share {
    /// Adds the time since the last change, unless it was our turn.
    fn account(&mut self, now: Instant) {
        if self.wants == 0 {
            let time = now.duration_since(self.changed);
            self.open += time;
            self.occupied += time.as_millis() * self.held as u128;
        }
        self.changed = now;
    }

    /// Whether it was taken away, and is not returned yet.
    fn is_leaving(&self) -> bool {
        self.is_displaced.load(Ordering::Acquire)
    }

    fn set_waker(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;

//! Futures that share a task and are polled only when they were woken themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future that shares its task with others and is polled only when it was woken itself. Most of
/// what one half of a connection does costs less than finding out that the other half has nothing
/// to do.
///
/// A future that may be polled again after it was ready, such as a [`poll_fn`](std::future::poll_fn),
/// may be polled again here too: it stands for a source of several things.
pub(crate) struct PollOnWake<F> {
    future: F,
    signal: Arc<Signal>,
    /// Wakes through the signal.
    waker: Waker,
}

struct Signal {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl<F: Future + Unpin> PollOnWake<F> {
    pub(crate) fn new(future: F) -> Self {
        // Woken, because it was never polled.
        let signal = Arc::new(Signal { woken: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&signal));
        Self { future, signal, waker }
    }
}

impl<F: Future + Unpin> Future for PollOnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, signal, waker } = &mut *self;
        // First, so that a signal after the check wakes the task.
        signal.task.register(cx.waker());
        if !signal.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let polled = Pin::new(future).poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            // It has registered no waker, so that the next poll has to ask it again.
            signal.woken.store(true, Ordering::Release);
        }
        polled
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Only the first signal wakes the task.
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn poll<F: Future + Unpin>(apart: &mut PollOnWake<F>, task: &Arc<Task>) -> Poll<F::Output> {
        Pin::new(apart).poll(&mut Context::from_waker(&Waker::from(Arc::clone(task))))
    }

    #[test]
    fn it_is_polled_only_when_it_was_woken_itself() {
        let mut wakers = Vec::new();
        let mut apart = PollOnWake::new(poll_fn(|cx| {
            wakers.push(cx.waker().clone());
            if wakers.len() < 3 { Poll::Pending } else { Poll::Ready(wakers.clone()) }
        }));
        let (first, other) = (Arc::<Task>::default(), Arc::<Task>::default());
        assert!(poll(&mut apart, &first).is_pending());
        assert!(poll(&mut apart, &first).is_pending(), "the task was woken by something else");
        let waker = apart.waker.clone();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(first.woken(), 1);
        assert!(poll(&mut apart, &first).is_pending());
        assert!(poll(&mut apart, &other).is_pending());
        waker.wake();
        assert_eq!((first.woken(), other.woken()), (1, 1), "the last task that polled is woken");
        assert!(matches!(poll(&mut apart, &other), Poll::Ready(wakers) if wakers.len() == 3));
    }

    #[test]
    fn a_source_is_asked_again_after_it_was_ready() {
        let mut left = vec![1, 2];
        let next = |_: &mut Context<'_>| left.pop().map_or(Poll::Pending, Poll::Ready);
        let mut source = PollOnWake::new(poll_fn(next));
        let task = Arc::<Task>::default();
        assert!(matches!(poll(&mut source, &task), Poll::Ready(2)));
        assert!(matches!(poll(&mut source, &task), Poll::Ready(1)));
        assert!(poll(&mut source, &task).is_pending());
    }

    #[test]
    fn a_wake_during_the_poll_is_not_lost() {
        let mut polls = 0;
        let mut apart = PollOnWake::new(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 { Poll::Pending } else { Poll::Ready(()) }
        }));
        let task = Arc::<Task>::default();
        for woken in 1..3 {
            assert!(poll(&mut apart, &task).is_pending());
            assert_eq!(task.woken(), woken);
        }
        assert!(poll(&mut apart, &task).is_ready());
    }
}

//! One thread that carries out all changes of a store, in order.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::{Semaphore, oneshot};

use crate::error::StorageError;

/// Bound of the queue, in bytes of content: a few seconds of work for a disk. Callers beyond it
/// wait for room.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Least weight of a command, in bytes. Bounds the number of queued commands.
const MIN_COMMAND_BYTES: usize = 4 << 10;

/// Unit in which queued content is counted, in bytes.
const UNIT: usize = 1 << 10;

/// A thread that owns the writing side `W` of a backend and runs commands on it, one after the
/// other, in the order in which they were queued.
///
/// Commands are not grouped: one call of [`Storage::append`](crate::Storage::append) is one command
/// and one batch.
///
/// Works on any async runtime. Dropping it closes it like [`Self::close`], and ignores the error.
pub struct WriterThread<W> {
    /// `None` once the thread takes no more commands.
    queue: Mutex<Option<Sender<Command<W>>>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<Result<(), StorageError>>>>,
}

/// The writing side of a backend, owned by a [`WriterThread`].
pub trait WriterState: Sized + Send + 'static {
    /// Does the work that is due (a delayed flush, a retry), and returns when the next is due.
    /// Called after the start, after each command, and at the returned time. Does nothing by
    /// default.
    fn maintain(&mut self) -> Option<Instant> {
        None
    }

    /// Makes everything durable and closes the engine. Called after the last command. Drops the
    /// state by default.
    fn close(self) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Runs one call, sends its answer, and breaks if the call panicked.
type Command<W> = Box<dyn FnOnce(&mut W) -> ControlFlow<()> + Send>;

/// The answer of a call, or its panic.
type Answer<T> = Result<Result<T, StorageError>, Box<dyn Any + Send>>;

#[derive(Debug, thiserror::Error)]
#[error("its writer thread ended with a panic")]
struct WriterPanicked;

impl<W: WriterState> WriterThread<W> {
    /// Starts the thread. `name` is the thread's name in the operating system.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] if the system starts no thread.
    pub fn start(name: &str, state: W) -> Result<Self, StorageError> {
        let (queue, commands) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(state, &commands))
            .map_err(|error| StorageError::io("cannot start the writer thread", error))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(MAX_QUEUED_BYTES / UNIT)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs a command that holds about `bytes` bytes of content, and waits for its answer. The
    /// command runs to its end even if this future is dropped after it was queued.
    ///
    /// A panic of the command continues in the caller. It also ends the thread, because the state
    /// may be half changed: all later commands fail with [`StorageError::Backend`].
    ///
    /// # Errors
    ///
    /// The error of the command, or [`StorageError::Closed`] after [`Self::close`].
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        command: impl FnOnce(&mut W) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let units = bytes.clamp(MIN_COMMAND_BYTES, MAX_QUEUED_BYTES) / UNIT;
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        let room = room.map_err(|_| StorageError::Closed)?;
        let (reply, answer) = oneshot::channel::<Answer<T>>();
        let queued = Box::new(move |state: &mut W| {
            let result = catch_unwind(AssertUnwindSafe(|| command(state)));
            let next =
                if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            // The caller may have given up.
            let _ = reply.send(result);
            drop(room);
            next
        });
        if let Some(queue) = &*self.queue() {
            // Fails only if the thread has ended, which the answer shows as well.
            let _ = queue.send(queued);
        }
        match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) if self.queue().is_some() => Err(panicked()),
            Err(_) => Err(StorageError::Closed),
        }
    }
}

impl<W> WriterThread<W> {
    /// Takes no more commands. Queued ones still run. The state is closed by [`Self::close`], so
    /// that the caller can close before it what must not outlive it.
    pub fn stop(&self) {
        self.room.close();
    }

    /// Stops, runs all queued commands, closes the state, and ends the thread. Blocks meanwhile.
    /// A second call waits for the first and returns `Ok`.
    ///
    /// # Errors
    ///
    /// The error of [`WriterState::close`].
    pub fn close(&self) -> Result<(), StorageError> {
        self.stop();
        self.queue().take();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => Ok(()),
        }
    }

    /// The sender is there or not, so a panic elsewhere leaves nothing half done.
    fn queue(&self) -> MutexGuard<'_, Option<Sender<Command<W>>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Drop for WriterThread<W> {
    fn drop(&mut self) {
        // No resume of a panic here: a panic in a drop may abort the process.
        self.stop();
        self.queue().take();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        drop(thread.map(JoinHandle::join));
    }
}

impl<W> fmt::Debug for WriterThread<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterThread").finish_non_exhaustive()
    }
}

/// The body of the thread.
fn run<W: WriterState>(mut state: W, commands: &Receiver<Command<W>>) -> Result<(), StorageError> {
    loop {
        let command = match state.maintain() {
            None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => commands.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match command {
            Ok(command) => {
                if command(&mut state).is_break() {
                    return Err(panicked());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return state.close(),
        }
    }
}

fn panicked() -> StorageError {
    StorageError::backend("the store takes no more writes", WriterPanicked)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Records all calls.
    #[derive(Default)]
    struct Log {
        entries: Vec<char>,
        due: Option<Instant>,
        closed: Arc<Mutex<Vec<char>>>,
    }

    impl WriterState for Log {
        fn maintain(&mut self) -> Option<Instant> {
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.due = None;
                self.entries.push('!');
            }
            self.due
        }

        fn close(self) -> Result<(), StorageError> {
            *self.closed.lock().unwrap() = self.entries;
            Ok(())
        }
    }

    fn start() -> (Arc<WriterThread<Log>>, Arc<Mutex<Vec<char>>>) {
        let closed = Arc::default();
        let log = Log { closed: Arc::clone(&closed), ..Log::default() };
        (Arc::new(WriterThread::start("test", log).unwrap()), closed)
    }

    /// Holds the thread until the sender is dropped, and adds nothing.
    async fn hold(writer: &Arc<WriterThread<Log>>) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let writer = Arc::clone(writer);
        tokio::spawn(async move {
            let command = move |_: &mut Log| {
                begun.send(()).unwrap();
                let _ = held.recv();
                Ok(())
            };
            writer.run(0, command).await
        });
        has_begun.await.unwrap();
        release
    }

    fn push(
        writer: &Arc<WriterThread<Log>>,
        entry: char,
        bytes: usize,
    ) -> tokio::task::JoinHandle<()> {
        let writer = Arc::clone(writer);
        tokio::spawn(async move {
            let command = move |log: &mut Log| {
                log.entries.push(entry);
                Ok(())
            };
            writer.run(bytes, command).await.unwrap();
        })
    }

    #[tokio::test]
    async fn commands_run_in_their_order_and_all_before_closing() {
        let (writer, closed) = start();
        let release = hold(&writer).await;
        let queued = ['a', 'b', 'c'].map(|entry| push(&writer, entry, 0));
        tokio::task::yield_now().await;
        writer.stop();
        drop(release);
        for command in queued {
            command.await.unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(closed.lock().unwrap().is_empty(), "closed before its time");
        writer.close().unwrap();
        assert_eq!(*closed.lock().unwrap(), ['a', 'b', 'c']);
        assert!(matches!(writer.run(0, |_| Ok(())).await, Err(StorageError::Closed)));
        writer.close().unwrap();
    }

    #[tokio::test]
    async fn a_command_whose_caller_has_given_up_runs_all_the_same() {
        let (writer, closed) = start();
        let release = hold(&writer).await;
        let abandoned = push(&writer, 'a', 0);
        tokio::task::yield_now().await;
        abandoned.abort();
        drop(release);
        writer.close().unwrap();
        assert_eq!(*closed.lock().unwrap(), ['a']);
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_next_command_wait_until_one_is_done() {
        let (writer, closed) = start();
        let release = hold(&writer).await;
        // The rest of the room, and more than is left.
        let large = push(&writer, 'a', MAX_QUEUED_BYTES - MIN_COMMAND_BYTES);
        tokio::task::yield_now().await;
        assert_eq!(writer.room.available_permits(), 0);
        let waiting = push(&writer, 'b', 0);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(release);
        large.await.unwrap();
        waiting.await.unwrap();
        writer.close().unwrap();
        assert_eq!(*closed.lock().unwrap(), ['a', 'b']);
    }

    #[tokio::test]
    async fn due_work_is_done_although_no_command_comes() {
        let (writer, _) = start();
        let soon = |log: &mut Log| {
            log.due = Some(Instant::now() + Duration::from_millis(10));
            Ok(())
        };
        writer.run(0, soon).await.unwrap();
        let mut entries = Vec::new();
        while entries.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            entries = writer.run(0, |log| Ok(log.entries.clone())).await.unwrap();
        }
        assert_eq!(entries, ['!']);
    }

    #[tokio::test]
    async fn a_panic_continues_in_the_caller_and_ends_the_writer() {
        let (writer, closed) = start();
        let panicking = Arc::clone(&writer);
        let run = async move { panicking.run::<()>(0, |_| panic!("on purpose")).await };
        assert!(tokio::spawn(run).await.unwrap_err().is_panic());
        let error = writer.run(0, |_| Ok(())).await.unwrap_err();
        assert!(matches!(error, StorageError::Backend { .. }), "{error:?}");
        assert!(writer.close().is_err());
        assert!(closed.lock().unwrap().is_empty(), "a half changed state is not closed");
    }
}

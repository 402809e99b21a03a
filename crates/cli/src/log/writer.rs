//! Writes to standard error through a bounded buffer and a separate thread. A stalled reader (the
//! log driver of a container, a terminal after Ctrl-S) does not block the server.
//!
//! `tracing-appender` has such a writer too, but at the end of the program it prints to standard
//! output if its queue is full. Standard output is often the same stalled pipe.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait: about 2,000 lines. Up to the same amount is being written
/// meanwhile.
const BUFFER_BYTES: usize = 256 << 10;
/// The pause of the thread if a non-blocking output is full.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Accepts lines without waiting. Clones share one buffer.
#[derive(Clone)]
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Lines dropped since the start.
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines dropped since the thread took the buffer. Once a line is dropped, all lines are
    /// dropped until the thread takes the buffer, so that the report is at the right place in the
    /// log.
    dropped: u64,
    is_writing: bool,
}

impl LogWriter {
    /// Starts a thread that writes to this output.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self { shared: Arc::default() };
        let shared = Arc::clone(&writer.shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.run(out))?;
        Ok(writer)
    }

    /// The number of lines dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines are written, at most for this time.
    pub(crate) fn flush_within(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.shared.lock();
        while state.is_writing || !state.lines.is_empty() || state.dropped > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Write for LogWriter {
    /// Accepts a whole line, or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if state.dropped > 0 || state.lines.len() + line.len() > BUFFER_BYTES {
            state.dropped += 1;
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            state.lines.extend_from_slice(line);
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Shared {
    /// Ignores poisoning: no code panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines as they arrive. Never returns.
    fn run(&self, mut out: impl Write) {
        // Lines lost to write errors. They are reported after the next successful write.
        let mut lost = 0;
        loop {
            let (lines, dropped) = self.next();
            if dropped > 0 {
                warn!(dropped, "log lines were dropped: standard error was too slow");
            }
            if write_all(&mut out, &lines).is_ok() {
                if lost > 0 {
                    let lost = std::mem::take(&mut lost);
                    warn!(dropped = lost, "log lines were dropped: standard error failed");
                }
            } else {
                let count = lines.split(|byte| *byte == b'\n').skip(1).count() as u64;
                lost += count;
                self.dropped.fetch_add(count, Ordering::Relaxed);
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for lines and takes them, with the number of lines dropped after them.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        while state.lines.is_empty() && state.dropped == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped))
    }
}

/// Like [`Write::write_all`], but also works on a pipe that another program has made non-blocking.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    /// Returns scripted results, and waits while there is none.
    struct Scripted {
        answers: mpsc::Receiver<io::Result<usize>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = self.answers.recv().map_err(io::Error::other)??.min(bytes.len());
            self.written.send(bytes[..length].to_vec()).map_err(io::Error::other)?;
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Script = (LogWriter, mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>);

    fn writer() -> Script {
        let (answer, answers) = mpsc::channel();
        let (writing, written) = mpsc::channel();
        (LogWriter::start(Scripted { answers, written: writing }).unwrap(), answer, written)
    }

    #[test]
    fn a_stalled_reader_holds_nothing_up_and_costs_lines() {
        let (mut writer, answer, written) = writer();
        let line = [b'x'; 1024];
        let count = 2 * BUFFER_BYTES / line.len() + 10;
        for _ in 0..count {
            writer.write_all(&line).unwrap();
        }
        let dropped = writer.dropped();
        assert!(dropped >= 10, "{dropped}");
        let started = Instant::now();
        writer.flush_within(Duration::from_millis(50));
        assert!(started.elapsed() < SOON);

        // As soon as lines are read, the next ones are kept.
        for _ in 0..10 {
            answer.send(Ok(usize::MAX)).unwrap();
        }
        writer.flush_within(SOON);
        let kept = written.try_iter().map(|bytes| bytes.len()).sum::<usize>();
        assert_eq!(kept, (count - usize::try_from(dropped).unwrap()) * line.len());
        writer.write_all(b"again\n").unwrap();
        assert_eq!(written.recv_timeout(SOON).unwrap(), b"again\n");
        assert_eq!(writer.dropped(), dropped);
    }

    #[test]
    fn a_pipe_that_does_not_block_gets_every_byte() {
        let (mut writer, answer, written) = writer();
        for result in [Ok(2), Err(ErrorKind::WouldBlock.into()), Ok(usize::MAX)] {
            answer.send(result).unwrap();
        }
        writer.write_all(b"a line\n").unwrap();
        writer.flush_within(SOON);
        assert_eq!(written.try_iter().collect::<Vec<_>>().concat(), b"a line\n");
        assert_eq!(writer.dropped(), 0);
    }

    #[test]
    fn lines_that_an_error_takes_are_counted() {
        let (mut writer, answer, _written) = writer();
        answer.send(Err(ErrorKind::StorageFull.into())).unwrap();
        writer.write_all(b"a line\n").unwrap();
        writer.flush_within(SOON);
        assert_eq!(writer.dropped(), 1);
    }
}

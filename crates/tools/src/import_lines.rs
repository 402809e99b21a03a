//! Imports the lines of a portable file.
//!
//! The lines may have any order, as long as each session stays in order. All lines of a CoValue go
//! to the same thread, which checks them against the lines before them and the target. A line that
//! depends on an account or a group that has not arrived yet is held back. It is tried again once
//! all lines before it are in the target.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use downbeat_core::delete::DeleteError;
use downbeat_protocol::{CoValueId, Content, SessionContent, SessionId};

use crate::check::{CheckFailure, Checked, Reason};
use crate::directory::Directory;
use crate::error::{Error, FileError};
use crate::file::{Input, Line, Mark, Totals};
use crate::findings::{Finding, Findings};
use crate::outgoing::Outgoing;
use crate::progress::ProgressObserver;
use crate::store::Store;
use crate::walk::{join, threads};
use crate::writer::{Stopped, Writer};

/// Lines that wait for one thread. [`MAX_IN_FLIGHT_BYTES`] bounds their bytes.
const MAX_WAITING_LINES: usize = 1_024;

/// Bytes of lines in the hands of all threads, so that long lines do not add up.
const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

/// Bytes of held content. Beyond that, the held lines are tried again with the content that has
/// arrived by then.
const MAX_HELD_BYTES: u64 = 16 << 20;

/// CoValues that a thread remembers, 2 KiB for each session. An export writes all lines of a
/// CoValue in a row, so few are needed.
const MAX_RECENT: usize = 8;

/// Imports all lines of a file.
pub(crate) fn import_lines(
    mut input: Input,
    to: &Store,
    writer: &Writer<'_>,
    findings: &Findings,
    progress: &dyn ProgressObserver,
) -> Result<(), Error> {
    let shared = Shared {
        to,
        writer,
        findings,
        directory: Directory::new(vec![to.clone()]),
        in_flight: InFlight::default(),
        held: Mutex::default(),
    };
    let read = thread::scope(|scope| -> Result<_, Error> {
        let (senders, workers): (Vec<_>, Vec<_>) = (0..threads())
            .map(|_| {
                let (sender, receiver) = sync_channel(MAX_WAITING_LINES);
                (sender, scope.spawn(|| shared.work(receiver)))
            })
            .unzip();
        let read = shared.read(&mut input, &senders, progress);
        drop(senders);
        // The error of a thread is the cause of the error of reading.
        workers.into_iter().try_for_each(join)?;
        Ok(read)
    });
    // The lines before a read error are imported.
    let read = read?;
    shared.try_held_again()?;
    read
}

struct Shared<'a> {
    to: &'a Store,
    writer: &'a Writer<'a>,
    findings: &'a Findings,
    directory: Directory,
    in_flight: InFlight,
    held: Mutex<Held>,
}

/// Content that was held back, with its line numbers.
#[derive(Default)]
struct Held {
    items: Vec<(u64, Content)>,
    bytes: u64,
}

impl Shared<'_> {
    /// Reads the lines and hands them to the threads.
    fn read(
        &self,
        input: &mut Input,
        workers: &[SyncSender<Line>],
        progress: &dyn ProgressObserver,
    ) -> Result<(), Error> {
        let mut at = 0;
        let mut frame = Frame::default();
        while let Some(line) = input.next()? {
            let read = input.read();
            progress.add(read - at);
            at = read;
            if frame.is_message(&line, input.name(), self.findings)? {
                let worker = workers.get(share_of(&line, workers.len()));
                let worker = worker.ok_or(Stopped)?;
                self.in_flight.add(line.text.len())?;
                worker.send(line).map_err(|_| Stopped)?;
                if lock(&self.held).bytes > MAX_HELD_BYTES {
                    self.in_flight.wait_idle()?;
                    self.try_held_again()?;
                }
            }
        }
        Ok(frame.end(input)?)
    }

    /// Imports the lines of one thread.
    fn work(&self, lines: Receiver<Line>) -> Result<(), Error> {
        // Wakes the reader, also after a panic.
        let _end = End(&self.in_flight);
        let mut importer = Importer { shared: self, recent: Vec::new(), is_last_try: false };
        for line in lines {
            let len = line.text.len();
            match line.content() {
                Ok(content) => importer.import(line.number, content)?,
                Err(error) => self.find(line.number, None, None, Reason::Malformed(error)),
            }
            self.in_flight.remove(len);
        }
        Ok(())
    }

    /// Tries held content again, until no more of it is accepted, and leaves out the rest. Called
    /// while the threads are idle.
    fn try_held_again(&self) -> Result<(), Error> {
        let mut before = None;
        loop {
            let mut held = std::mem::take(&mut *lock(&self.held));
            if held.items.is_empty() {
                return Ok(());
            }
            self.writer.wait_idle()?;
            self.directory.forget_roles();
            held.items.sort_by_key(|(line, _)| *line);
            let is_last_try = before == Some(held.bytes);
            before = Some(held.bytes);
            let mut importer = Importer { shared: self, recent: Vec::new(), is_last_try };
            for (line, content) in held.items {
                importer.import(line, content)?;
            }
        }
    }

    fn find(
        &self,
        line: u64,
        co_value: Option<CoValueId>,
        session: Option<&SessionId>,
        reason: Reason,
    ) {
        let session = session.cloned();
        self.findings.push(Finding { line: Some(line), co_value, session, reason });
    }
}

/// Imports content messages, one after the other.
struct Importer<'a, 'b> {
    shared: &'a Shared<'b>,
    /// The last CoValues, the most recent one at the end.
    recent: Vec<Recent<'b>>,
    /// Content is left out instead of held back.
    is_last_try: bool,
}

struct Recent<'a> {
    checked: Checked,
    outgoing: Outgoing<'a>,
    /// Sessions with a part that was left out. Later parts cannot be valid.
    given_up: Vec<SessionId>,
}

impl<'b> Importer<'_, 'b> {
    fn import(&mut self, line: u64, content: Content) -> Result<(), Error> {
        let id = content.id;
        for malformed in &content.malformed {
            let reason = Reason::Malformed(format!("{}: {}", malformed.session, malformed.error));
            self.shared.find(line, Some(id), None, reason);
        }
        let mut recent = match self.recent(&content) {
            Ok(recent) => recent,
            Err(CheckFailure::Storage(error)) => return Err(error.into()),
            Err(CheckFailure::Reason(reason)) if self.may_hold(&reason) => {
                self.hold(line, content);
                return Ok(());
            }
            Err(CheckFailure::Reason(reason)) => {
                self.shared.find(line, Some(id), None, reason);
                return Ok(());
            }
        };
        let mut extensions = Vec::new();
        let mut held = Vec::new();
        let mut is_deletion_refused = false;
        let mut rest = content;
        for run in std::mem::take(&mut rest.sessions) {
            if recent.given_up.contains(&run.session) {
                continue;
            }
            match recent.checked.extend(&run, &self.shared.directory) {
                Ok(extension) => extensions.extend(extension),
                Err(CheckFailure::Storage(error)) => return Err(error.into()),
                Err(CheckFailure::Reason(reason)) => {
                    is_deletion_refused |= matches!(reason, Reason::Deletion(_));
                    if self.may_hold(&reason) {
                        held.push(run);
                    } else {
                        self.shared.find(line, Some(id), Some(&run.session), reason);
                        recent.given_up.push(run.session);
                    }
                }
            }
        }
        recent.outgoing.send(extensions)?;
        // An unproven deletion must not create the CoValue as an empty one.
        if !is_deletion_refused {
            recent.outgoing.finish()?;
        }
        self.recent.push(recent);
        if !held.is_empty() {
            self.hold(line, Content { sessions: held, malformed: Vec::new(), ..rest });
        }
        Ok(())
    }

    /// Takes the CoValue of a message out of the recent ones, or loads it.
    fn recent(&mut self, content: &Content) -> Result<Recent<'b>, CheckFailure> {
        let id = content.id;
        if let Some(index) = self.recent.iter().position(|recent| recent.checked.id() == id) {
            return Ok(self.recent.remove(index));
        }
        if self.recent.len() >= MAX_RECENT {
            self.recent.remove(0);
        }
        let (checked, header) = match (self.shared.to.load(id)?, &content.header) {
            (Some(stored), _) => {
                let deletes = content.sessions.iter().any(|run| run.session.is_delete());
                let recheck_deletion = deletes && !stored.deleted;
                (Checked::stored(id, &stored, self.shared.to, recheck_deletion), None)
            }
            (None, Some(header)) => (Checked::new(id, header.clone())?, Some(header.clone())),
            (None, None) => return Err(Reason::NoHeader.into()),
        };
        let outgoing = Outgoing { writer: self.shared.writer, id, header };
        Ok(Recent { checked, outgoing, given_up: Vec::new() })
    }

    /// Whether the content may become valid once more lines have arrived.
    fn may_hold(&self, reason: &Reason) -> bool {
        !self.is_last_try
            && matches!(
                reason,
                Reason::NoHeader
                    | Reason::UnknownAccount(_)
                    | Reason::Gap { .. }
                    | Reason::Deletion(DeleteError::RoleUnknown | DeleteError::NotAdmin(_))
            )
    }

    fn hold(&self, line: u64, content: Content) {
        /// Bytes of a message besides its transactions.
        const OVERHEAD: u64 = 1_000;
        let sessions = content.sessions.iter();
        let bytes = OVERHEAD + sessions.map(SessionContent::json_len).sum::<u64>();
        let mut held = lock(&self.shared.held);
        held.bytes += bytes;
        held.items.push((line, content));
    }
}

/// The first and the last line of an export, and the number of messages between them.
#[derive(Default)]
struct Frame {
    begun: bool,
    is_open: bool,
    messages: u64,
}

impl Frame {
    /// Whether a line is a message, and not part of the frame.
    fn is_message(
        &mut self,
        line: &Line,
        name: &str,
        findings: &Findings,
    ) -> Result<bool, FileError> {
        let wrong =
            |problem: String| FileError::Line { name: name.to_owned(), line: line.number, problem };
        let is_first = !std::mem::replace(&mut self.begun, true);
        match line.mark() {
            Some(Ok(Mark::Export { .. })) => {
                if self.is_open {
                    return Err(wrong("the export before is cut off".to_owned()));
                }
                (self.is_open, self.messages) = (true, 0);
            }
            Some(Ok(Mark::End(totals))) => {
                self.is_open = false;
                self.compare(totals, line.number, findings);
            }
            Some(Err(error)) => return Err(wrong(error)),
            None => {
                if is_first && let Err(problem) = line.content() {
                    let (name, line) = (name.to_owned(), line.number);
                    return Err(FileError::NotAnExport { name, line, problem });
                }
                self.messages += 1;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn compare(&self, totals: Totals, line: u64, findings: &Findings) {
        if totals.messages != self.messages {
            let reason = Reason::Malformed(format!(
                "there should be {} messages before this, and there are {}",
                totals.messages, self.messages
            ));
            findings.push(Finding { line: Some(line), co_value: None, session: None, reason });
        }
    }

    fn end(&self, input: &Input) -> Result<(), FileError> {
        let name = input.name().to_owned();
        match (self.begun, self.is_open) {
            (false, _) => Err(FileError::Empty { name }),
            (true, true) => Err(FileError::CutOff { name, line: input.line() }),
            (true, false) => Ok(()),
        }
    }
}

/// Bytes of lines in the hands of the threads.
#[derive(Default)]
struct InFlight {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl InFlight {
    /// Adds a line, once there is room.
    fn add(&self, bytes: usize) -> Result<(), Stopped> {
        let mut state = self.wait_until(|bytes| bytes <= MAX_IN_FLIGHT_BYTES)?;
        state.0 += bytes;
        Ok(())
    }

    fn remove(&self, bytes: usize) {
        lock(&self.state).0 -= bytes;
        self.changed.notify_all();
    }

    fn wait_idle(&self) -> Result<(), Stopped> {
        self.wait_until(|bytes| bytes == 0).map(drop)
    }

    fn wait_until(
        &self,
        is_enough: impl Fn(usize) -> bool,
    ) -> Result<MutexGuard<'_, (usize, bool)>, Stopped> {
        let mut state = lock(&self.state);
        while !is_enough(state.0) && !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.1 { Err(Stopped) } else { Ok(state) }
    }
}

struct End<'a>(&'a InFlight);

impl Drop for End<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).1 = true;
        self.0.changed.notify_all();
    }
}

/// The thread for a line: always the same for a CoValue.
fn share_of(line: &Line, threads: usize) -> usize {
    /// The start of a line as exports write it. Other lines are decoded.
    const START: &[u8] = b"{\"action\":\"content\",\"id\":\"";
    let id = line.text.strip_prefix(START).and_then(|rest| {
        let end = rest.iter().position(|&byte| byte == b'"')?;
        CoValueId::parse(str::from_utf8(rest.get(..end)?).ok()?).ok()
    });
    let id = id.or_else(|| line.content().ok().map(|content| content.id));
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    usize::try_from(hasher.finish() % threads.max(1) as u64).unwrap_or(0)
}

/// Ignores poisoning: the locked data is consistent at every point where a thread could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Importing the lines of a portable file.
//!
//! The lines may come in any order that keeps each session's. Those of one CoValue go to one
//! thread, which checks them against what it has just taken or what the target has. What cannot be
//! judged yet, because an account or a group may come later or be on its way through another
//! thread, is held back and tried again when everything before it is in the target.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{bail, ensure};
use downbeat_core::delete::DeleteError;
use downbeat_protocol::{CoValueId, Content, SessionId};

use super::check::{Checked, Reason, Refusal};
use super::directory::Directory;
use super::file::{Input, Line, Mark, Totals};
use super::findings::{Finding, Findings};
use super::import::Outgoing;
use super::progress::Progress;
use super::store::Store;
use super::walk::{join, threads};
use super::writer::{Stopped, Writer, json_len};

/// Lines that wait for a thread. Their bytes are bounded by [`MAX_UNDER_WAY`].
const MAX_LINES_WAITING: usize = 1_024;

/// Bytes of lines that are with the threads, so that long lines do not add up.
const MAX_UNDER_WAY: usize = 16 << 20;

/// Bytes of content that is held back, and a part of it is judged by what is there then.
const MAX_HELD: usize = 16 << 20;

/// CoValues that a thread remembers, 2 KiB for each session. Only neighbouring lines are of the
/// same CoValue, unless somebody has mixed them.
const MAX_RECENT: usize = 8;

/// Takes all lines of a file.
pub(super) fn take_all(
    mut input: Input,
    to: &Store,
    writer: &Writer<'_>,
    findings: &Findings,
    progress: &Progress,
) -> anyhow::Result<()> {
    let shared = Shared {
        to,
        writer,
        findings,
        directory: Directory::new(vec![to.clone()]),
        under_way: UnderWay::default(),
        held: Mutex::default(),
    };
    let read = thread::scope(|scope| -> anyhow::Result<_> {
        let (senders, workers): (Vec<_>, Vec<_>) = (0..threads())
            .map(|_| {
                let (sender, receiver) = sync_channel(MAX_LINES_WAITING);
                (sender, scope.spawn(|| shared.work(receiver)))
            })
            .unzip();
        let read = shared.read(&mut input, &senders, progress);
        drop(senders);
        // What has stopped a thread is the reason why reading has stopped.
        workers.into_iter().try_for_each(join)?;
        Ok(read)
    });
    // A file that breaks off has been taken up to there.
    let read = read?;
    shared.try_held_again()?;
    read
}

struct Shared<'a> {
    to: &'a Store,
    writer: &'a Writer<'a>,
    findings: &'a Findings,
    directory: Directory,
    under_way: UnderWay,
    held: Mutex<Held>,
}

/// What was held back, by the lines from which it came.
#[derive(Default)]
struct Held {
    items: Vec<(u64, Content)>,
    bytes: usize,
}

impl Shared<'_> {
    /// Gives the lines to the threads.
    fn read(
        &self,
        input: &mut Input,
        workers: &[SyncSender<Line>],
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let mut at = 0;
        let mut frame = Frame::default();
        while let Some(line) = input.next()? {
            let read = input.read();
            progress.add(read - at);
            at = read;
            if frame.is_message(&line, input.name(), self.findings)? {
                let worker = workers.get(share_of(&line, workers.len()));
                let Some(worker) = worker else { bail!(Stopped) };
                self.under_way.add(line.text.len())?;
                if worker.send(line).is_err() {
                    bail!(Stopped);
                }
                if lock(&self.held).bytes > MAX_HELD {
                    self.under_way.wait_idle()?;
                    self.try_held_again()?;
                }
            }
        }
        frame.end(input)
    }

    /// Takes the lines that come to one thread.
    fn work(&self, lines: Receiver<Line>) -> anyhow::Result<()> {
        // However this ends, nobody waits for it any longer.
        let _end = End(&self.under_way);
        let mut taker = Taker { shared: self, recent: Vec::new(), is_last_try: false };
        for line in lines {
            let len = line.text.len();
            match line.content() {
                Ok(content) => taker.take(line.number, content)?,
                Err(error) => self.find(line.number, None, None, Reason::Malformed(error)),
            }
            self.under_way.remove(len);
        }
        Ok(())
    }

    /// Tries what was held back until nothing more comes of it, and leaves out the rest. To be
    /// called when the threads have nothing to do.
    fn try_held_again(&self) -> anyhow::Result<()> {
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
            let mut taker = Taker { shared: self, recent: Vec::new(), is_last_try };
            for (line, content) in held.items {
                taker.take(line, content)?;
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

/// Takes content messages, one after the other.
struct Taker<'a, 'b> {
    shared: &'a Shared<'b>,
    /// What was taken last, the latest at the end.
    recent: Vec<Recent<'b>>,
    /// Nothing is held back any more.
    is_last_try: bool,
}

struct Recent<'a> {
    checked: Checked,
    outgoing: Outgoing<'a>,
    /// Sessions of which something was left out, so that nothing can follow.
    given_up: Vec<SessionId>,
}

impl<'b> Taker<'_, 'b> {
    fn take(&mut self, line: u64, content: Content) -> anyhow::Result<()> {
        let id = content.id;
        for malformed in &content.malformed {
            let reason = Reason::Malformed(format!("{}: {}", malformed.session, malformed.error));
            self.shared.find(line, Some(id), None, reason);
        }
        let mut recent = match self.recent(&content) {
            Ok(recent) => recent,
            Err(Refusal::Storage(error)) => return Err(error.into()),
            Err(Refusal::Reason(reason)) if self.may_hold(&reason) => {
                self.hold(line, content);
                return Ok(());
            }
            Err(Refusal::Reason(reason)) => {
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
                Err(Refusal::Storage(error)) => return Err(error.into()),
                Err(Refusal::Reason(reason)) => {
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
        // What cannot be deleted for sure does not come to life again as something empty.
        if !is_deletion_refused {
            recent.outgoing.finish()?;
        }
        self.recent.push(recent);
        if !held.is_empty() {
            self.hold(line, Content { sessions: held, malformed: Vec::new(), ..rest });
        }
        Ok(())
    }

    /// Takes the CoValue of a message out of the recent ones, or begins with it.
    fn recent(&mut self, content: &Content) -> Result<Recent<'b>, Refusal> {
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
                let anew = deletes && !stored.deleted;
                (Checked::stored(id, &stored, self.shared.to, anew), None)
            }
            (None, Some(header)) => (Checked::new(id, header.clone())?, Some(header.clone())),
            (None, None) => return Err(Reason::NoHeader.into()),
        };
        let outgoing = Outgoing { writer: self.shared.writer, id, header };
        Ok(Recent { checked, outgoing, given_up: Vec::new() })
    }

    /// Whether what is wrong now may be right when more is there.
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
        /// What a message takes beside its transactions.
        const OVERHEAD: usize = 1_000;
        let bytes = OVERHEAD + content.sessions.iter().map(json_len).sum::<usize>();
        let mut held = lock(&self.shared.held);
        held.bytes += bytes;
        held.items.push((line, content));
    }
}

/// The frame around the messages: the first and the last line, and how many there are between.
#[derive(Default)]
struct Frame {
    begun: bool,
    is_open: bool,
    messages: u64,
}

impl Frame {
    /// Whether a line is a message, and not part of the frame.
    fn is_message(&mut self, line: &Line, name: &str, findings: &Findings) -> anyhow::Result<bool> {
        let is_first = !std::mem::replace(&mut self.begun, true);
        match line.mark() {
            Some(Ok(Mark::Export { .. })) => {
                ensure!(
                    !self.is_open,
                    "{name}: line {}: the export before is cut off",
                    line.number
                );
                (self.is_open, self.messages) = (true, 0);
            }
            Some(Ok(Mark::End(totals))) => {
                self.is_open = false;
                self.compare(totals, line.number, findings);
            }
            Some(Err(error)) => bail!("{name}: line {}: {error}", line.number),
            None => {
                if is_first && let Err(error) = line.content() {
                    bail!("{name} is no export: line {}: {error}", line.number);
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

    fn end(&self, input: &Input) -> anyhow::Result<()> {
        let name = input.name();
        ensure!(self.begun, "{name} is empty");
        ensure!(!self.is_open, "{name} is cut off after line {}", input.line());
        Ok(())
    }
}

/// Bytes of lines that are with the threads.
#[derive(Default)]
struct UnderWay {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl UnderWay {
    /// Adds a line, once there is room.
    fn add(&self, bytes: usize) -> Result<(), Stopped> {
        let mut state = self.wait_until(|bytes| bytes <= MAX_UNDER_WAY)?;
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

struct End<'a>(&'a UnderWay);

impl Drop for End<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).1 = true;
        self.0.changed.notify_all();
    }
}

/// Which thread takes a line: always the same for a CoValue.
fn share_of(line: &Line, threads: usize) -> usize {
    /// As every export writes it; what is written otherwise is decoded.
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

/// Nothing is left half done where these locks are held, so a panic elsewhere is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

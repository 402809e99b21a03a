//! The writer: applies each batch to the tree and flushes it.
//!
//! After the first error of the disk sled writes nothing more, but still reads. So after an error
//! the writer leaves the tree to the readers until the disk can be written again. Then it drops the
//! tree and opens it again. Data that was not flushed is then gone from memory as it is from the
//! disk, and its writers have got an error.
//!
//! A log that has lost its name can still be written, but nothing finds that data again. So the
//! writer checks the log's identity before each batch, and again before it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_protocol::CoValueId;
use downbeat_storage::files::{FileIdentity, SpaceReserve};
use downbeat_storage::{
    Durability, Erased, Outcome, StorageError, UnsyncedUpdate, Write, WriterState,
};
use tracing::{debug, error, warn};

use crate::draft::{DamageCheck, Draft, Remembered};
use crate::erase::erase;
use crate::open::{self, Opened};
use crate::options::SledOptions;
use crate::shared::Shared;
use crate::space;
use crate::tree::Tree;
use crate::watermark::Watermark;

/// Interval between attempts to open a failed tree again. Long enough to be no load, and short
/// enough that the store is back soon after space was made on the disk.
const REOPEN_INTERVAL: Duration = Duration::from_millis(250);

/// The state of the writer thread.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    options: SledOptions,
    identity: FileIdentity,
    reserve: SpaceReserve,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Box<Open>),
    /// The tree could not be opened again. The next attempt is at this time.
    Failed(StorageError, Instant),
}

#[derive(Debug)]
struct Open {
    tree: Tree,
    watermark: Watermark,
    remembered: Remembered,
    /// When applied but unflushed changes must be flushed.
    flush_by: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(
        opened: Opened,
        reserve: SpaceReserve,
        shared: Arc<Shared>,
        options: SledOptions,
    ) -> Self {
        let identity = opened.tree.identity().clone();
        let state = State::Open(Box::new(Open::new(opened)));
        Self { shared, options, identity, reserve, state }
    }

    /// See [`Storage::append`](downbeat_storage::Storage::append). `bytes` is the size of the
    /// batch.
    pub(crate) fn append(
        &mut self,
        batch: &[Write],
        bytes: usize,
    ) -> Result<Vec<Outcome>, StorageError> {
        let durability = self.options.durability;
        self.change(bytes, |open, check| open.append(batch, durability, check))
    }

    /// See [`Storage::track_unsynced`](downbeat_storage::Storage::track_unsynced).
    pub(crate) fn track(
        &mut self,
        updates: &[UnsyncedUpdate],
        bytes: usize,
    ) -> Result<(), StorageError> {
        let durability = self.options.durability;
        self.change(bytes, |open, check| open.track(updates, durability, check))
    }

    /// See [`Storage::erase`](downbeat_storage::Storage::erase). Does not flush: content that comes
    /// back after a crash is erased again.
    pub(crate) fn erase(&mut self, id: CoValueId) -> Result<Erased, StorageError> {
        let erased = self.change(0, |open, _| erase(&open.tree, &mut open.remembered, id))?;
        Ok(erased?)
    }

    /// Makes a change of this size. After an error nothing of it is in the tree, or the tree is
    /// opened again.
    fn change<T>(
        &mut self,
        bytes: usize,
        mut change: impl FnMut(&mut Open, DamageCheck) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.reopen_if_failed();
        if matches!(self.state, State::Open(_)) {
            self.identity.check()?;
            space::require_for_batch(self.shared.dir(), bytes as u64)?;
        }
        let mut result = self.attempt(&mut change, DamageCheck::Leaf);
        if let Err(StorageError::Corrupt(damage)) = &result {
            warn!(%damage, "a batch met damage; trying again without the writes near it");
            result = self.attempt(&mut change, DamageCheck::Neighbours);
        }
        let done = result?;
        // A change to a log that has lost its name is not stored.
        self.identity.check()?;
        Ok(done)
    }

    fn attempt<T>(
        &mut self,
        change: &mut impl FnMut(&mut Open, DamageCheck) -> Result<T, StorageError>,
        check: DamageCheck,
    ) -> Result<T, StorageError> {
        let open = match &mut self.state {
            State::Open(open) => open,
            State::Failed(error, _) => return Err(error.clone()),
        };
        let result = change(open, check);
        if let Err(error) = &result {
            self.fail(error.clone());
        }
        result
    }

    /// Leaves a failed tree to the readers, and tries to open it again.
    fn fail(&mut self, error: StorageError) {
        self.shared.set_unwritable(error.clone());
        self.state = State::Failed(error, Instant::now());
        self.reopen_if_failed();
    }

    fn reopen_if_failed(&mut self) {
        match self.state {
            State::Failed(_, retry_at) if retry_at <= Instant::now() => {}
            _ => return,
        }
        match self.reopen() {
            Ok(opened) => {
                debug!(store = %self.shared.dir().display(), "opened the store again");
                self.identity = opened.tree.identity().clone();
                self.shared.set_open(opened.tree.clone());
                self.state = State::Open(Box::new(Open::new(opened)));
            }
            Err(error) => {
                debug!(%error, "cannot open the store again yet");
                self.shared.set_unwritable(error.clone());
                self.state = State::Failed(error, Instant::now() + REOPEN_INTERVAL);
            }
        }
    }

    /// Opens the tree again if there is space for it. The readers lose the old tree first, because
    /// sled locks the log.
    fn reopen(&mut self) -> Result<Opened, StorageError> {
        let shared = Arc::clone(&self.shared);
        let dir = shared.dir();
        self.identity.check()?;
        if let Err(error) = space::require_for_opening(dir) {
            // sled has met a full disk despite the checks, for example while it cleaned its log.
            let is_full = matches!(error, StorageError::Full { .. });
            if !(is_full && self.reserve.release()) {
                return Err(error);
            }
            space::require_for_opening(dir)?;
        }
        self.shared.set_failed(StorageError::backend(
            format!("cannot read from {}", dir.display()),
            "the store is being opened again after an error",
        ));
        let opened = open::open(dir, &self.options);
        if let Err(error) = &opened {
            self.shared.set_failed(error.clone());
        }
        opened
    }
}

impl WriterState for Writer {
    fn maintain(&mut self) -> Option<Instant> {
        self.reopen_if_failed();
        if let State::Open(open) = &mut self.state
            && open.flush_by.is_some_and(|due| due <= Instant::now())
            && let Err(error) = open.flush()
        {
            error!(%error, "acknowledged writes that were not durable are lost");
            self.fail(error);
        }
        match &self.state {
            State::Open(open) => {
                space::keep_reserve(&mut self.reserve, self.shared.dir());
                [open.flush_by, self.reserve.retry_at()].into_iter().flatten().min()
            }
            State::Failed(_, retry_at) => Some(*retry_at),
        }
    }

    fn close(mut self) -> Result<(), StorageError> {
        match &mut self.state {
            State::Open(open) => open.flush(),
            State::Failed(error, _) => Err(error.clone()),
        }
    }
}

impl Open {
    fn new(opened: Opened) -> Self {
        let Opened { tree, watermark, totals } = opened;
        Self { tree, watermark, remembered: Remembered::new(totals), flush_by: None }
    }

    fn append(
        &mut self,
        batch: &[Write],
        durability: Durability,
        check: DamageCheck,
    ) -> Result<Vec<Outcome>, StorageError> {
        let mut draft = Draft::new(&self.tree, &mut self.remembered, check);
        let outcomes = batch.iter().map(|write| draft.write(write)).collect::<Result<_, _>>()?;
        draft.apply()?;
        self.make_durable(durability)?;
        Ok(outcomes)
    }

    fn track(
        &mut self,
        updates: &[UnsyncedUpdate],
        durability: Durability,
        check: DamageCheck,
    ) -> Result<(), StorageError> {
        let mut draft = Draft::new(&self.tree, &mut self.remembered, check);
        for update in updates {
            draft.track(update);
        }
        draft.apply()?;
        self.make_durable(durability)
    }

    /// Flushes now, or notes when to flush.
    fn make_durable(&mut self, durability: Durability) -> Result<(), StorageError> {
        match durability {
            Durability::Flushed => self.flush(),
            Durability::Relaxed { within } => {
                self.flush_by.get_or_insert_with(|| Instant::now() + within);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.tree.flush()?;
        self.flush_by = None;
        if let Err(error) = self.watermark.write(self.remembered.totals.batches) {
            // All data is durable. A later loss is noticed up to the previous watermark.
            warn!(%error, "cannot write the watermark");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use downbeat_storage::conformance::{Author, CoValueFixture};

    use super::*;
    use crate::read;

    fn writer(dir: &Path) -> Writer {
        let options = SledOptions::default();
        let opened = open::open(dir, &options).unwrap();
        let shared = Arc::new(Shared::new(opened.tree.clone()));
        Writer::new(opened, space::reserve(dir), shared, options)
    }

    fn write(writer: &mut Writer, write: Write) -> Result<Vec<Outcome>, StorageError> {
        let State::Open(open) = &mut writer.state else { panic!("the tree is open") };
        open.append(&[write], Durability::Flushed, DamageCheck::Leaf)
    }

    fn disk_error() -> StorageError {
        StorageError::io("cannot write", std::io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn after_an_error_the_tree_is_opened_again_and_logs_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        write(&mut writer, co_value.create(vec![author.write(1, 20)])).unwrap();

        // A reader that is slow to drop the tree does not prevent it.
        let reader = writer.shared.tree().unwrap();
        let slow = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(reader);
        });
        writer.fail(disk_error());
        slow.join().unwrap();
        let tree = writer.shared.tree().unwrap();
        assert_eq!(read::load(&tree, co_value.id).unwrap().unwrap().sessions[0].count, 1);
        let outcomes = write(&mut writer, co_value.extend(vec![author.write(1, 20)])).unwrap();
        assert!(outcomes[0].is_complete());
        let State::Open(open) = &writer.state else { panic!("the tree is open") };
        assert_eq!(open.remembered.totals.transactions, 2);
    }

    #[test]
    fn a_tree_that_failed_is_read_until_the_disk_can_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (co_value, mut author) = (CoValueFixture::new(1), Author::new(1));
        write(&mut writer, co_value.create(vec![author.write(1, 20)])).unwrap();
        // Nothing can be written into a directory, as on a full disk.
        let in_the_way = dir.path().join("room.tmp");
        std::fs::create_dir(&in_the_way).unwrap();
        writer.fail(disk_error());
        let load =
            |writer: &Writer| writer.shared.tree().and_then(|tree| read::load(&tree, co_value.id));
        assert_eq!(load(&writer).unwrap().unwrap().sessions[0].count, 1);
        assert!(writer.shared.check().is_err());

        std::fs::remove_dir(&in_the_way).unwrap();
        thread::sleep(REOPEN_INTERVAL);
        writer.maintain();
        writer.shared.check().unwrap();
        assert_eq!(load(&writer).unwrap().unwrap().sessions[0].count, 1);
        write(&mut writer, co_value.extend(vec![author.write(1, 20)])).unwrap();
    }

    #[test]
    fn a_tree_that_cannot_be_opened_again_is_tried_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let format = dir.path().join("format");
        std::fs::write(&format, "something else").unwrap();
        writer.fail(disk_error());
        assert!(matches!(writer.state, State::Failed(StorageError::NotAStore { .. }, _)));
        assert!(matches!(writer.shared.tree(), Err(StorageError::NotAStore { .. })));

        std::fs::write(&format, "downbeat-storage-sled 1\n").unwrap();
        writer.reopen_if_failed();
        assert!(writer.shared.tree().is_err(), "it is not tried all the time");
        thread::sleep(REOPEN_INTERVAL);
        writer.maintain();
        writer.shared.tree().unwrap();
        assert!(matches!(writer.state, State::Open(_)));
    }
}

//! A durable storage backend over one append-only file, with all data in memory as well.
//!
//! The file is a log of changes. A record is the length of a change, a checksum of the length, a
//! checksum of the change, and the change. Opening the store replays the log into a
//! [`MemoryStorage`], which answers all reads. A write goes to the log and the disk, then to
//! memory.
//!
//! It passes the conformance suite (`tests/it/append_log.rs`). For production it should also
//! compact the log. Run it with `cargo run -p downbeat-storage --example append_log --features
//! files,threads`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use downbeat_protocol::{
    CoValueId, Header, Limits, SessionContent, SessionCounts, SessionId, Signature, Transaction,
};
use downbeat_storage::files::FileIdentity;
use downbeat_storage::{
    Damage, Erased, MemoryStorage, Outcome, Storage, StorageError, StoreStats, StoredCoValue,
    Unsynced, UnsyncedUpdate, UpstreamName, Write, WriterState, WriterThread, async_trait,
};

type Answer<T> = Result<T, StorageError>;

/// The first bytes of the file.
const MAGIC: &[u8] = b"append-log 1\n";

/// The bytes of a record before its change: the length, its checksum, and that of the change.
const HEADER_LEN: usize = 4 + 4 + 8;

/// A store in the file `log` of a directory.
pub struct AppendLog {
    memory: Arc<MemoryStorage>,
    writer: WriterThread<Log>,
}

impl AppendLog {
    /// Opens the store in a directory, or creates it. Blocks while it reads the log.
    pub fn open(dir: &Path) -> Answer<Self> {
        let memory = Arc::new(MemoryStorage::new());
        let log = Log::open(dir, Arc::clone(&memory))?;
        Ok(Self { memory, writer: WriterThread::start("append-log", log)? })
    }

    async fn write(&self, change: Change) -> Answer<(Vec<Outcome>, Erased)> {
        self.writer.run(0, |log| log.write(change)).await
    }
}

#[async_trait]
impl Storage for AppendLog {
    async fn append(&self, batch: Vec<Write>) -> Answer<Vec<Outcome>> {
        Ok(self.write(Change { batch, ..Change::default() }).await?.0)
    }

    async fn track_unsynced(&self, updates: Vec<UnsyncedUpdate>) -> Answer<()> {
        self.write(Change { updates, ..Change::default() }).await.map(drop)
    }

    async fn erase(&self, id: CoValueId) -> Answer<Erased> {
        Ok(self.write(Change { erase: vec![id], ..Change::default() }).await?.1)
    }

    async fn load(&self, id: CoValueId) -> Answer<Option<StoredCoValue>> {
        self.memory.load(id).await
    }

    async fn read(
        &self,
        id: CoValueId,
        have: &SessionCounts,
        max_bytes: usize,
    ) -> Answer<Vec<SessionContent>> {
        self.memory.read(id, have, max_bytes).await
    }

    async fn list(&self, after: Option<CoValueId>, limit: usize) -> Answer<Vec<CoValueId>> {
        self.memory.list(after, limit).await
    }

    async fn count(&self) -> Answer<u64> {
        self.memory.count().await
    }

    async fn erasable(&self, after: Option<CoValueId>, limit: usize) -> Answer<Vec<CoValueId>> {
        self.memory.erasable(after, limit).await
    }

    async fn unsynced(&self, after: Option<Unsynced>, limit: usize) -> Answer<Vec<Unsynced>> {
        self.memory.unsynced(after, limit).await
    }

    async fn stats(&self) -> Answer<StoreStats> {
        self.memory.stats().await
    }

    async fn check(&self) -> Answer<()> {
        self.writer.run(0, |log| log.identity.check()).await
    }

    async fn close(&self) -> Answer<()> {
        // Blocks until the queued writes are on disk. A store for production uses another thread.
        self.writer.close()?;
        self.memory.close().await
    }
}

/// The open file, owned by the writer thread.
struct Log {
    file: File,
    identity: FileIdentity,
    memory: Arc<MemoryStorage>,
    /// The length of all complete records. Bytes beyond it are left over from a failed write.
    len: u64,
}

impl Log {
    fn open(dir: &Path, memory: Arc<MemoryStorage>) -> Answer<Self> {
        let path = dir.join("log");
        let io = |error| StorageError::io(format!("cannot open {}", path.display()), error);
        fs::create_dir_all(dir).map_err(io)?;
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(&path).map_err(io)?;
        if file.try_lock().is_err() {
            return Err(StorageError::Locked { path });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() < MAGIC.len() && MAGIC.starts_with(&bytes) {
            // A new file, or one whose creation was interrupted.
            file.set_len(0).and_then(|()| file.write_all(MAGIC)).map_err(io)?;
            file.sync_all().map_err(io)?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
            bytes = MAGIC.to_vec();
        } else if !bytes.starts_with(MAGIC) {
            return Err(StorageError::NotAStore { path, reason: "it is another file".to_owned() });
        }
        let mut end = MAGIC.len();
        while let Some(change) = next_change(&bytes, &mut end)
            .map_err(|reason| Damage::in_record(format!("{} at {end}", path.display()), reason))?
        {
            change.apply(&memory)?;
        }
        let identity = FileIdentity::of(&path)?;
        Ok(Self { file, identity, memory, len: end as u64 })
    }

    fn write(&mut self, change: Change) -> Answer<(Vec<Outcome>, Erased)> {
        self.identity.check()?;
        let record = encode_record(&change);
        let mut write = || {
            if self.file.seek(SeekFrom::End(0))? != self.len {
                self.file.set_len(self.len)?;
            }
            self.file.write_all(&record)?;
            self.file.sync_data()
        };
        write().map_err(|error| StorageError::io("cannot write to the log", error))?;
        // A record in a file that has lost its name is not stored. The next write removes it.
        self.identity.check()?;
        self.len += record.len() as u64;
        change.apply(&self.memory)
    }
}

/// Each write is synced at once, so there is nothing to do later.
impl WriterState for Log {}

/// One change of the store. The same changes in the same order lead to the same state.
#[derive(Default)]
struct Change {
    batch: Vec<Write>,
    updates: Vec<UnsyncedUpdate>,
    erase: Vec<CoValueId>,
}

impl Change {
    fn apply(self, memory: &MemoryStorage) -> Answer<(Vec<Outcome>, Erased)> {
        let outcomes = now(memory.append(self.batch))?;
        now(memory.track_unsynced(self.updates))?;
        let erased = self.erase.into_iter().map(|id| now(memory.erase(id))).last();
        Ok((outcomes, erased.transpose()?.unwrap_or_default()))
    }
}

/// The answer of a memory store, which never waits.
fn now<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("a memory store does not wait"),
    }
}

/// The next record; its end is stored in `end`. `None` at the end of the file, and before a record
/// that was torn by a crash.
fn next_change(file: &[u8], end: &mut usize) -> Result<Option<Change>, &'static str> {
    let Some((header, rest)) = file[*end..].split_at_checked(HEADER_LEN) else { return Ok(None) };
    let (len, sums) = header.split_at(4);
    let torn_or = |rest: &[u8], damage| {
        if rest.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(damage) }
    };
    if checksum(len)[..4] != sums[..4] {
        return torn_or(rest, "the checksum of a length is wrong");
    }
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let Some((change, rest)) = rest.split_at_checked(len) else { return Ok(None) };
    if checksum(change) != sums[4..] {
        return torn_or(rest, "the checksum of a change is wrong");
    }
    *end += HEADER_LEN + len;
    decode(change).map(Some).ok_or("a change does not decode")
}

fn encode_record(change: &Change) -> Vec<u8> {
    let change = encode(change);
    let len = u32::try_from(change.len()).expect("a change is shorter than 4 GiB").to_le_bytes();
    [&len[..], &checksum(&len)[..4], &checksum(&change), &change].concat()
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> [u8; 8] {
    let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, add).to_le_bytes()
}

/// A change is stored as JSON of these tuples.
type ChangeFields = (Vec<WriteFields>, Vec<(String, String, bool)>, Vec<String>);
/// Id, header, sessions, and whether it is a tombstone.
type WriteFields = (String, Option<String>, Vec<SessionFields>, bool);
/// Session, transactions before, signature, and transactions.
type SessionFields = (String, u64, String, Vec<String>);

fn encode(change: &Change) -> Vec<u8> {
    let text = |json: &[u8]| String::from_utf8_lossy(json).into_owned();
    let session = |content: &SessionContent| -> SessionFields {
        let transactions = content.transactions.iter().map(|tx| text(tx.json())).collect();
        let signature = content.last_signature.to_string();
        (content.session.to_string(), content.after, signature, transactions)
    };
    let writes = change.batch.iter().map(|write| match write {
        Write::Append { id, header, sessions } => {
            let header = header.as_ref().map(|header| text(header.json()));
            (id.to_string(), header, sessions.iter().map(session).collect(), false)
        }
        Write::Tombstone { id, session: content } => {
            (id.to_string(), None, vec![session(content)], true)
        }
    });
    let updates = change.updates.iter().map(|UnsyncedUpdate { entry, synced }| {
        (entry.id.to_string(), entry.upstream.to_string(), *synced)
    });
    let erase = change.erase.iter().map(CoValueId::to_string);
    let fields: ChangeFields = (writes.collect(), updates.collect(), erase.collect());
    serde_json::to_vec(&fields).expect("strings and numbers can be JSON")
}

fn decode(json: &[u8]) -> Option<Change> {
    // The content was checked before it was stored.
    let limits = Limits::unlimited();
    let session = |(session, after, signature, transactions): SessionFields| {
        let transactions = transactions.into_iter().map(Into::into);
        let transactions = transactions.map(|json| Transaction::parse(&json, &limits).ok());
        let transactions = transactions.collect::<Option<_>>()?;
        let session = SessionId::parse(&session).ok()?;
        let last_signature = Signature::parse(&signature).ok()?;
        Some(SessionContent { session, after, transactions, last_signature })
    };
    let write = |(id, header, sessions, is_tombstone): WriteFields| {
        let id = CoValueId::parse(&id).ok()?;
        let header = header.map(|json| Header::parse(&json.into(), &limits)).transpose().ok()?;
        let mut sessions = sessions.into_iter().map(session).collect::<Option<Vec<_>>>()?;
        if is_tombstone {
            return Some(Write::Tombstone { id, session: sessions.pop()? });
        }
        Some(Write::Append { id, header, sessions })
    };
    let update = |(id, upstream, synced): (String, String, bool)| {
        let (id, upstream) = (CoValueId::parse(&id).ok()?, UpstreamName::new(&upstream).ok()?);
        Some(UnsyncedUpdate { entry: Unsynced { id, upstream }, synced })
    };
    let erase = |id: String| CoValueId::parse(&id).ok();
    let (batch, updates, erased): ChangeFields = serde_json::from_slice(json).ok()?;
    Some(Change {
        batch: batch.into_iter().map(write).collect::<Option<_>>()?,
        updates: updates.into_iter().map(update).collect::<Option<_>>()?,
        erase: erased.into_iter().map(erase).collect::<Option<_>>()?,
    })
}

#[tokio::main]
async fn main() -> Answer<()> {
    let dir = std::env::temp_dir().join("downbeat-append-log");
    println!("{:?}", AppendLog::open(&dir)?.stats().await?);
    Ok(())
}

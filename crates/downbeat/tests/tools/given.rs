//! Test stores, and the binary.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use downbeat_core::delete;
use downbeat_crypto::header_id;
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, Signature};
use downbeat_storage::{Storage, StoredCoValue, Write};
use downbeat_storage_sled::SledStorage;
use downbeat_storage_sqlite::SqliteStorage;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::generate::{MADE_AT, Person, append, create};

/// A directory for the stores and files of one test, with a runtime for the stores.
pub(crate) struct Place {
    dir: TempDir,
    pub runtime: Runtime,
}

/// The result of a run of the binary.
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self { dir: tempfile::tempdir().unwrap(), runtime }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the binary in the directory.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().unwrap())
    }

    /// Runs the binary, which must succeed.
    pub(crate) fn run_well(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {} {}", said.out, said.err);
        said
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_downbeat"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Opens the store of this name: `sled:DIR` or `sqlite:FILE`.
    pub(crate) fn open(&self, name: &str) -> Arc<dyn Storage> {
        let (kind, path) = name.split_once(':').unwrap();
        match kind {
            "sled" => Arc::new(SledStorage::open(self.path(path)).unwrap()),
            _ => Arc::new(SqliteStorage::open(self.path(path)).unwrap()),
        }
    }

    /// Makes a store with every kind of content.
    pub(crate) fn make(&self, name: &str) -> Cast {
        let store = self.open(name);
        let cast = Cast::new();
        append(&store, self.runtime.handle(), cast.writes());
        self.runtime.block_on(store.close()).unwrap();
        cast
    }

    /// The whole content of a store, for comparison.
    pub(crate) fn dump(&self, name: &str) -> Vec<Dumped> {
        let store = self.open(name);
        let dumped = self.runtime.block_on(async {
            let mut dumped = Vec::new();
            for id in store.list(None, usize::MAX >> 1).await.unwrap() {
                let stored = store.load(id).await.unwrap().unwrap();
                let runs = store.read(id, &SessionCounts::new(), usize::MAX >> 1).await.unwrap();
                dumped.push(Dumped::of(id, &stored, &runs));
            }
            dumped
        });
        self.runtime.block_on(store.close()).unwrap();
        dumped
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{} {}", self.out, self.err))
    }
}

/// A CoValue in a store.
#[derive(Debug, PartialEq)]
pub(crate) struct Dumped {
    pub id: CoValueId,
    header: String,
    deleted: bool,
    sessions: Vec<(String, u64, Signature)>,
    transactions: Vec<String>,
}

impl Dumped {
    fn of(id: CoValueId, stored: &StoredCoValue, runs: &[SessionContent]) -> Self {
        let text = |json: &[u8]| String::from_utf8(json.to_vec()).unwrap();
        Self {
            id,
            header: text(stored.header.json()),
            deleted: stored.deleted,
            sessions: stored
                .sessions
                .iter()
                .map(|found| (found.session.to_string(), found.count, found.last_signature))
                .collect(),
            transactions: runs
                .iter()
                .flat_map(|run| &run.transactions)
                .map(|transaction| text(transaction.json()))
                .collect(),
        }
    }
}

/// Two people with a group each, and their content: a small CoValue by both of them, one with a log
/// over many checkpoints, a deleted one, and one with a header alone.
pub(crate) struct Cast {
    pub alice: Person,
    pub bob: Person,
    pub small: CoValueId,
    pub long: CoValueId,
    pub deleted: CoValueId,
    pub empty: CoValueId,
}

impl Cast {
    /// CoValues, with the two accounts and the two groups.
    pub(crate) const CO_VALUES: usize = 8;
    /// The transactions of the long log, and the length of their changes.
    pub(crate) const LONG: (usize, usize) = (60, 20_000);

    fn new() -> Self {
        let (alice, bob) = (Person::new(7, 1), Person::new(7, 2));
        let id = |number| header_id(&alice.owned(7, number));
        let (small, long, deleted, empty) = (id(1), id(2), id(3), id(4));
        Self { alice, bob, small, long, deleted, empty }
    }

    fn writes(&self) -> Vec<Write> {
        let header = |number| self.alice.owned(7, number);
        let (mut by_alice, mut by_bob) = (self.alice.log(), self.bob.log());
        let mut writes = Vec::from(self.alice.writes());
        writes.extend(self.bob.writes());
        writes.push(create(
            self.small,
            &header(1),
            vec![by_alice.write_private(3, 50), by_bob.write_private(2, 50)],
        ));
        let extend = |id, content| Write::Append { id, header: None, sessions: vec![content] };
        writes.push(extend(self.small, by_alice.write_private(1, 50)));
        let mut log = self.alice.log();
        writes.push(create(self.long, &header(2), Vec::new()));
        for _ in 0..Self::LONG.0 {
            writes.push(extend(self.long, log.write_private(1, Self::LONG.1)));
        }
        let mut log = self.bob.log();
        writes.push(create(self.deleted, &header(3), vec![log.write_private(4, 50)]));
        let marker = delete::transaction(self.deleted, MADE_AT + 1);
        let session = self.alice.delete_log().write(vec![marker]);
        writes.push(Write::Tombstone { id: self.deleted, session });
        writes.push(create(self.empty, &header(4), Vec::new()));
        writes
    }
}

/// Writes a file with other content.
pub(crate) fn rewrite(path: &Path, change: impl FnOnce(&str) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, change(&text)).unwrap();
}

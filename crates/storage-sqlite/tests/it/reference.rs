//! Files in all versions of the reference server, made from the facts of their tables.

use std::path::{Path, PathBuf};

use downbeat_protocol::{SessionContent, Transaction};
use downbeat_storage::conformance::{Author, CoValueFixture};
use rusqlite::{Connection, params};
use tempfile::TempDir;

/// All versions.
pub(crate) const VERSIONS: [u32; 7] = [1, 2, 3, 4, 5, 6, 7];

/// The changes of the tables with each version, in the order of the versions.
const STEPS: [&str; 7] = [
    "CREATE TABLE transactions (ses INTEGER, idx INTEGER, tx TEXT NOT NULL, PRIMARY KEY (ses, idx))
        WITHOUT ROWID;
    CREATE TABLE sessions (rowID INTEGER PRIMARY KEY, coValue INTEGER NOT NULL,
        sessionID TEXT NOT NULL, lastIdx INTEGER, lastSignature TEXT, UNIQUE (sessionID, coValue));
    CREATE INDEX sessionsByCoValue ON sessions (coValue);
    CREATE TABLE coValues (rowID INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        header TEXT NOT NULL UNIQUE);
    CREATE INDEX coValuesByID ON coValues (id);",
    "",
    "CREATE TABLE signatureAfter (ses INTEGER, idx INTEGER, signature TEXT NOT NULL,
        PRIMARY KEY (ses, idx)) WITHOUT ROWID;
    ALTER TABLE sessions ADD COLUMN bytesSinceLastSignature INTEGER;",
    "CREATE TABLE unsynced_covalues (rowID INTEGER PRIMARY KEY, co_value_id TEXT NOT NULL,
        peer_id TEXT NOT NULL, UNIQUE (co_value_id, peer_id));
    CREATE INDEX idx_unsynced_covalues_co_value_id ON unsynced_covalues (co_value_id);",
    "CREATE TABLE deletedCoValues (coValueID TEXT PRIMARY KEY, status INTEGER NOT NULL DEFAULT 0)
        WITHOUT ROWID;
    CREATE INDEX deletedCoValuesByStatus ON deletedCoValues (status);",
    "CREATE TABLE storageReconciliationLocks (key TEXT PRIMARY KEY, holderSessionId TEXT NOT NULL,
        acquiredAt INTEGER NOT NULL, expiresAt INTEGER NOT NULL,
        lastProcessedOffset INTEGER NOT NULL DEFAULT 0, releasedAt INTEGER) WITHOUT ROWID;",
    "ALTER TABLE storageReconciliationLocks DROP COLUMN expiresAt;",
];

/// A file of the reference in a directory of its own, and a connection to it.
pub(crate) struct ReferenceFile {
    pub(crate) directory: TempDir,
    pub(crate) connection: Connection,
    version: u32,
}

impl ReferenceFile {
    /// An empty file of this version.
    pub(crate) fn new(version: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("storage.db")).unwrap();
        let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()));
        mode.unwrap();
        for step in &STEPS[..version as usize] {
            connection.execute_batch(step).unwrap();
        }
        connection.pragma_update(None, "user_version", version).unwrap();
        Self { directory, connection, version }
    }

    pub(crate) fn path(&self) -> PathBuf {
        path_in(&self.directory)
    }

    /// A further connection to the file of a store that is open.
    pub(crate) fn beside(path: &Path) -> Connection {
        Connection::open(path).unwrap()
    }

    /// Stores content like the reference. A piece that is too long for one message ends with its
    /// own signature.
    pub(crate) fn store(&self, co_value: &CoValueFixture, content: &SessionContent) {
        store(&self.connection, self.version, co_value, content);
    }

    pub(crate) fn columns(&self) -> Vec<String> {
        columns(&self.connection)
    }
}

pub(crate) fn path_in(directory: &TempDir) -> PathBuf {
    directory.path().join("storage.db")
}

pub(crate) fn store(
    connection: &Connection,
    version: u32,
    co_value: &CoValueFixture,
    content: &SessionContent,
) {
    let (id, header) = (co_value.id.as_str(), str::from_utf8(co_value.header.json()).unwrap());
    let insert = "INSERT INTO coValues (id, header) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
    // With spaces, as a client may have sent it.
    connection.execute(insert, params![id, header.replace(':', ": ")]).unwrap();
    let session = content.session.as_str();
    let signature = content.last_signature.as_str();
    connection
        .execute(
            "INSERT INTO sessions (coValue, sessionID, lastIdx, lastSignature)
            VALUES ((SELECT rowID FROM coValues WHERE id = ?1), ?2, ?3, ?4)
            ON CONFLICT (coValue, sessionID)
            DO UPDATE SET lastIdx = excluded.lastIdx, lastSignature = excluded.lastSignature",
            params![id, session, content.end(), signature],
        )
        .unwrap();
    let row: i64 = connection
        .query_row(
            "SELECT rowID FROM sessions WHERE sessionID = ?1
            AND coValue = (SELECT rowID FROM coValues WHERE id = ?2)",
            params![session, id],
            |row| row.get(0),
        )
        .unwrap();
    let first = if version == 1 { content.after + 1 } else { content.after };
    for (idx, transaction) in (first..).zip(&content.transactions) {
        let insert = "INSERT INTO transactions (ses, idx, tx) VALUES (?1, ?2, ?3)";
        connection.execute(insert, params![row, idx, spelled_otherwise(transaction)]).unwrap();
    }
    let len: u64 = content.transactions.iter().map(|tx| u64::from(tx.changes_len())).sum();
    if version >= 3 && len > 102_400 {
        let insert = "INSERT INTO signatureAfter (ses, idx, signature) VALUES (?1, ?2, ?3)";
        connection.execute(insert, params![row, content.end() - 1, signature]).unwrap();
    }
}

/// A transaction's JSON with its members in the order in which clients send them.
fn spelled_otherwise(transaction: &Transaction) -> String {
    let changes = transaction.changes().unwrap().replace('"', "\\\"");
    format!(r#"{{"privacy":"trusting","madeAt":{},"changes":"{changes}"}}"#, transaction.made_at())
}

/// The columns of all tables: "table.column type".
pub(crate) fn columns(connection: &Connection) -> Vec<String> {
    let mut query = connection
        .prepare(
            "SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || c.pk
            FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'
            UNION ALL SELECT name || ' ' || type FROM sqlite_schema WHERE type != 'table'
            ORDER BY 1",
        )
        .unwrap();
    query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// A CoValue and its author, stored in a file of the reference.
pub(crate) fn stored(file: &ReferenceFile, number: u64) -> (CoValueFixture, Author) {
    let (co_value, mut author) = (CoValueFixture::new(number), Author::new(number));
    for (count, len) in [(1, 20), (3, 50_000), (2, 20)] {
        file.store(&co_value, &author.write(count, len));
    }
    (co_value, author)
}

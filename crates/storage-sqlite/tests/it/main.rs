//! Tests of the store through its public interface, and of its file through SQLite.

mod compact;
mod contract;
mod damage;
mod durability;
mod migration;
#[cfg(unix)]
mod moving;
mod native;
mod opening;
mod reference;
mod sharing;

use downbeat_storage_sqlite::SqliteSchema;

const SCHEMAS: [SqliteSchema; 2] = [SqliteSchema::Reference, SqliteSchema::Native];

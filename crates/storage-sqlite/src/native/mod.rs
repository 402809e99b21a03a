//! Downbeat's own schema: a record with a checksum for each extension of a log.
//!
//! [`docs/storage-sqlite.md`] describes the tables.
//!
//! [`docs/storage-sqlite.md`]: https://github.com/downbeat-sync/downbeat/blob/main/docs/storage-sqlite.md

mod changes;
mod check;
mod co_values;
mod erase;
mod log;
mod read;
mod record;
mod tables;
mod totals;

pub(crate) use changes::{Changes, Remembered};
pub(crate) use check::PASSES;
pub(crate) use read::{load, read};
pub(crate) use record::note_checksum;
pub(crate) use tables::{APPLICATION_ID, check, migrate, set_up_new_file};
pub(crate) use totals::count;

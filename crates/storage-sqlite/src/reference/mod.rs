//! The schema of the reference server: a row for each transaction, as JSON.

mod changes;
mod check;
mod erase;
mod extension;
mod header;
mod index;
mod log;
mod read;
mod tables;
mod totals;

pub(crate) use changes::{Changes, Remembered};
pub(crate) use check::PASSES;
pub(crate) use read::{load, read};
pub(crate) use tables::{check, migrate};
pub(crate) use totals::count;

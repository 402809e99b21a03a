//! Tools for Downbeat stores: convert, export, import, salvage, verify and inspect.
//!
//! Each tool is one function over a [`Store`], which wraps any
//! [`Storage`](downbeat_storage::Storage). The functions block and use all cores;
//! [`ProgressObserver`] reports how far they are. Every id, hash chain and signature is checked
//! again, except by [`convert`], which does so on request. Content that fails a check is left out and listed in the [`FindingsReport`]; it does not
//! end the run.
//!
//! ```
//! use std::sync::Arc;
//!
//! use downbeat_protocol::{Header, Ruleset};
//! use downbeat_storage::{MemoryStorage, Storage, Write};
//! use downbeat_tools::{Input, Output, Store, export, import_file, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//! let full = Arc::new(MemoryStorage::new());
//! let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build()?;
//! let id = downbeat_crypto::header_id(&header);
//! let write = Write::Append { id, header: Some(header), sessions: Vec::new() };
//! runtime.block_on(full.append(vec![write]))?;
//!
//! // Copy one store into another through a portable file.
//! let dir = tempfile::tempdir()?;
//! let file = dir.path().join("backup.ndjson.zst");
//! let from = Store::new(full, runtime.handle().clone());
//! export(&from, Output::create(&file, true)?, &())?;
//! let to = Store::new(Arc::new(MemoryStorage::new()), runtime.handle().clone());
//! let imported = import_file(Input::open(&file)?, &to, &())?;
//! assert_eq!(imported.new_co_values, 1);
//!
//! let verified = verify(&to, &())?;
//! assert!(verified.report.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! `docs/tools.md` describes the portable file and the commands of the `downbeat` binary that call
//! these functions.

mod check;
mod convert;
mod directory;
mod error;
mod export;
mod file;
mod findings;
mod import;
mod import_lines;
mod inspect;
mod outgoing;
mod progress;
mod salvage;
mod store;
mod verify;
mod walk;
mod writer;

pub use check::Reason;
pub use convert::convert;
pub use error::{Error, FileError};
pub use export::{Exported, export};
pub use file::{Input, Output, Totals};
pub use findings::{Finding, FindingsReport};
pub use import::{Imported, Interrupted, import_file, import_store};
pub use inspect::{Dependency, Inspected, RoleOf, SessionFigures, inspect};
pub use progress::{ProgressObserver, Unit};
pub use salvage::salvage;
pub use store::Store;
pub use verify::{VerifyReport, verify};

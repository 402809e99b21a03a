//! Known states and their difference, session logs, pieces, dependencies and group roles of Jazz CoValues.

mod changes;
mod co_value;
pub mod delete;
pub mod dependencies;
mod ingest;
pub mod known_state;
mod pieces;
pub mod roles;
mod session_log;

pub use co_value::CoValue;
pub use delete::DeleteError;
pub use ingest::{AppendError, Directory, IngestError, Ingested, SessionError};
pub use roles::Roles;
pub use session_log::{CHECKPOINT_BYTES, Checkpoint, LogError, SessionLog};

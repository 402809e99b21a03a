//! Why a store could not do what it was asked.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use downbeat_protocol::{CoValueId, SessionId};

/// Why a store could not do what it was asked.
///
/// Clones share the source: one failed flush is told to every append that waited for it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused something.
    #[error("{action}")]
    Io {
        /// What was tried, with the file or directory: "cannot open /srv/data/db".
        action: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The disk (or a quota on it) is full. Appends succeed again once there is room.
    #[error("the disk is full: {action}")]
    Full {
        /// What was tried, with the file or directory.
        action: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Something stored is not what was written.
    #[error("damaged data: {reason} ({place})")]
    Corrupt {
        /// Where.
        place: Box<Place>,
        /// What is wrong with it.
        reason: String,
    },
    /// The store was written by a newer version of this program.
    #[error(
        "{} has format version {found}, and this program reads up to version {supported}: use a newer one",
        path.display()
    )]
    NewerFormat {
        /// The store.
        path: PathBuf,
        /// The store's format version.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// There is something else in this place.
    #[error("{} is not a Downbeat store: {reason}", path.display())]
    NotAStore {
        /// The file or directory.
        path: PathBuf,
        /// What was found or missing.
        reason: String,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The backend failed in a way of its own.
    #[error("storage failed: {action}")]
    Backend {
        /// What was tried.
        action: String,
        /// What the backend said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// Where damaged data was found, as closely as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The CoValue.
    pub id: Option<CoValueId>,
    /// The session of that CoValue.
    pub session: Option<SessionId>,
    /// The file, directory or record.
    pub record: Option<String>,
}

impl StorageError {
    /// An error of the operating system, told apart by its kind.
    pub fn io(action: impl Into<String>, source: io::Error) -> Self {
        let (action, kind) = (action.into(), source.kind());
        let source = Arc::new(source);
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { action, source }
            }
            _ => Self::Io { action, source },
        }
    }

    /// Damaged data in a CoValue.
    pub fn corrupt(id: CoValueId, reason: impl Into<String>) -> Self {
        let place = Place { id: Some(id), ..Place::default() };
        Self::Corrupt { place: Box::new(place), reason: reason.into() }
    }

    /// Damaged data in a session of a CoValue.
    pub fn corrupt_session(id: CoValueId, session: &SessionId, reason: impl Into<String>) -> Self {
        let place = Place { id: Some(id), session: Some(session.clone()), record: None };
        Self::Corrupt { place: Box::new(place), reason: reason.into() }
    }

    /// Damaged data outside of any CoValue: in this record or file.
    pub fn corrupt_record(record: impl Into<String>, reason: impl Into<String>) -> Self {
        let place = Place { record: Some(record.into()), ..Place::default() };
        Self::Corrupt { place: Box::new(place), reason: reason.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(id) = self.id {
            write!(f, "CoValue {id}")?;
            separator = ", ";
        }
        if let Some(session) = &self.session {
            write!(f, "{separator}session {session}")?;
            separator = ", ";
        }
        if let Some(record) = &self.record {
            write!(f, "{separator}{record}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("place unknown") } else { Ok(()) }
    }
}

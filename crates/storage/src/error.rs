//! The errors of a store.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use downbeat_protocol::{CoValueId, SessionId};

/// Why a call of a [`Storage`](crate::Storage) failed.
///
/// The text of an error does not repeat its [`source`](Error::source). Clones share the source.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system reported an error.
    #[error("{action}")]
    Io {
        /// The failed action, with the file or directory: "cannot open /srv/data/db".
        action: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The disk (or a quota on it) is full. Appends succeed again once there is room.
    #[error("the disk is full: {action}")]
    Full {
        /// The failed action, with the file or directory.
        action: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// Stored data is damaged.
    #[error(transparent)]
    Corrupt(#[from] Damage),
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
    /// The path holds something else than a store.
    #[error("{} is not a Downbeat store: {reason}", path.display())]
    NotAStore {
        /// The file or directory.
        path: PathBuf,
        /// Why it is no store.
        reason: String,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The store was moved or deleted while it was open. Writes fail until it is back at its path.
    #[error("{} is gone: {reason}", path.display())]
    Gone {
        /// The path of the store.
        path: PathBuf,
        /// Whether the path is empty or holds another file.
        reason: String,
    },
    /// The engine of the backend reported an error. See [`Self::backend`].
    #[error("storage failed: {action}")]
    Backend {
        /// The failed action.
        action: String,
        /// The error of the engine.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// Damage in stored data: the read bytes differ from the written ones. Names the place as
/// closely as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage(Box<DamageParts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct DamageParts {
    id: Option<CoValueId>,
    session: Option<SessionId>,
    record: Option<String>,
    reason: String,
}

impl StorageError {
    /// An error of the operating system: [`Self::Full`] if the disk or a quota is full, and
    /// [`Self::Io`] otherwise.
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

    /// An error of a backend's engine, which failed at `action` ("cannot read from /srv/data").
    ///
    /// ```
    /// # use downbeat_storage::StorageError;
    /// let error = StorageError::backend("cannot commit", "the engine is out of handles");
    /// assert_eq!(error.to_string(), "storage failed: cannot commit");
    /// ```
    pub fn backend(
        action: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { action: action.into(), source: Arc::from(source.into()) }
    }
}

impl Damage {
    /// Damage in a CoValue.
    pub fn in_co_value(id: CoValueId, reason: impl Into<String>) -> Self {
        Self::new(Some(id), None, None, reason.into())
    }

    /// Damage in a session of a CoValue.
    pub fn in_session(id: CoValueId, session: &SessionId, reason: impl Into<String>) -> Self {
        Self::new(Some(id), Some(session.clone()), None, reason.into())
    }

    /// Damage in a file or record that belongs to no known CoValue.
    pub fn in_record(record: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(None, None, Some(record.into()), reason.into())
    }

    /// The same damage, met while reading this CoValue. Keeps a CoValue that is already named.
    #[must_use]
    pub fn while_reading(mut self, id: CoValueId) -> Self {
        self.0.id.get_or_insert(id);
        self
    }

    /// The damaged CoValue, if it is known.
    pub fn id(&self) -> Option<CoValueId> {
        self.0.id
    }

    /// The damaged session, if it is known.
    pub fn session(&self) -> Option<&SessionId> {
        self.0.session.as_ref()
    }

    /// The file or record, where it is not named by the CoValue.
    pub fn record(&self) -> Option<&str> {
        self.0.record.as_deref()
    }

    /// The kind of damage.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    fn new(
        id: Option<CoValueId>,
        session: Option<SessionId>,
        record: Option<String>,
        reason: String,
    ) -> Self {
        Self(Box::new(DamageParts { id, session, record, reason }))
    }
}

impl Error for Damage {}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged data: {}", self.reason())?;
        if let Some(id) = self.id() {
            write!(f, ", in CoValue {id}")?;
        }
        if let Some(session) = self.session() {
            write!(f, ", session {session}")?;
        }
        if let Some(record) = self.record() {
            write!(f, ", in {record}")?;
        }
        Ok(())
    }
}

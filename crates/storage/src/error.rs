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
    /// The store was moved or deleted while it was open. Nothing is stored until it is back in its
    /// place.
    #[error("{} is gone: {reason}", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
        /// What is there instead.
        reason: String,
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

/// Something stored that is not what was written, with the place where it was found, as closely as
/// that is known.
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

    /// Damage that belongs to no CoValue, or that cannot be told to: in this file or record.
    pub fn in_record(record: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(None, None, Some(record.into()), reason.into())
    }

    /// The same, found on the way to this CoValue, unless one is named already.
    #[must_use]
    pub fn on_the_way_to(mut self, id: CoValueId) -> Self {
        self.0.id.get_or_insert(id);
        self
    }

    /// The CoValue that is damaged.
    pub fn id(&self) -> Option<CoValueId> {
        self.0.id
    }

    /// The session that is damaged.
    pub fn session(&self) -> Option<&SessionId> {
        self.0.session.as_ref()
    }

    /// The file or record, if that is known better than by the CoValue.
    pub fn record(&self) -> Option<&str> {
        self.0.record.as_deref()
    }

    /// What is wrong.
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

//! Options of an open store.

use downbeat_storage::Durability;

use crate::schema::SqliteSchema;

/// Options for [`SqliteStorage::open_with`](crate::SqliteStorage::open_with).
///
/// ```
/// use downbeat_storage_sqlite::{Durability, SqliteOptions};
///
/// let options = SqliteOptions::default().with_durability(Durability::Flushed);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// When writes return. Default: [`Durability::Flushed`].
    ///
    /// With [`Durability::Relaxed`] a write returns when the operating system has it. A crash of
    /// the process loses nothing. A crash of the machine loses writes that are not flushed yet.
    pub durability: Durability,
    /// Size of SQLite's page caches, in bytes: half for the writer, and half for all readers
    /// together. Default: 64 MiB.
    pub cache_bytes: u64,
    /// The schema of a new file. Default: [`SqliteSchema::Reference`]. An existing file keeps its
    /// own.
    pub schema: SqliteSchema,
    /// Whether the store is for this process alone. Default: `false`.
    ///
    /// Then another process that wants the same cannot open the file. It says so by a lock on a
    /// file beside it, which ends with the process. Other programs, and stores that are not
    /// exclusive, take no notice.
    pub exclusive: bool,
}

impl SqliteOptions {
    /// Sets [`Self::durability`].
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets [`Self::cache_bytes`].
    #[must_use]
    pub fn with_cache_bytes(mut self, cache_bytes: u64) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// Sets [`Self::schema`].
    #[must_use]
    pub fn with_schema(mut self, schema: SqliteSchema) -> Self {
        self.schema = schema;
        self
    }

    /// Sets [`Self::exclusive`].
    #[must_use]
    pub fn with_exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Flushed,
            cache_bytes: 64 << 20,
            schema: SqliteSchema::default(),
            exclusive: false,
        }
    }
}

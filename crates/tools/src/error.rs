//! Errors that end a tool. A check that fails is no error: it is a [`Finding`](crate::Finding).

use std::io;

use downbeat_protocol::CoValueId;
use downbeat_storage::{Damage, StorageError};

/// Why a tool could not finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The work on one CoValue failed.
    #[error("in CoValue {id}")]
    CoValue {
        /// The CoValue.
        id: CoValueId,
        /// The cause.
        source: Box<Error>,
    },
    /// The store cannot list all its CoValues.
    #[error("the list of CoValues cannot be read to the end: {0}")]
    List(Damage),
    /// The target of a conversion has content that the source lacks.
    #[error("the target does not match the source: {0}")]
    Mismatch(String),
    /// The target of an import or conversion failed.
    #[error("the target could not be written to")]
    Target(#[source] StorageError),
    /// The work stopped because another thread met an error, which is the one that is reported.
    #[error("another thread has failed")]
    #[doc(hidden)]
    Stopped,
    /// A portable file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Error {
    /// Names the CoValue on which the work failed.
    pub(crate) fn in_co_value(self, id: CoValueId) -> Self {
        Self::CoValue { id, source: Box::new(self) }
    }
}

/// An error of a portable file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file could not be opened, read, created or written.
    #[error("cannot {action} {name}")]
    Io {
        /// The action: `open`, `write`.
        action: &'static str,
        /// The name of the file.
        name: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A line could not be read.
    #[error("cannot read {name} in line {line}")]
    Read {
        /// The name of the file.
        name: String,
        /// The line. The first is 1.
        line: u64,
        /// The error of the operating system or the decompressor.
        source: io::Error,
    },
    /// A line has no place in a portable file.
    #[error("{name}: line {line}: {problem}")]
    Line {
        /// The name of the file.
        name: String,
        /// The line. The first is 1.
        line: u64,
        /// The problem.
        problem: String,
    },
    /// The first line shows that this is another kind of file.
    #[error("{name} is no export: line {line}: {problem}")]
    NotAnExport {
        /// The name of the file.
        name: String,
        /// The line. The first is 1.
        line: u64,
        /// The problem.
        problem: String,
    },
    /// The file has no lines.
    #[error("{name} is empty")]
    Empty {
        /// The name of the file.
        name: String,
    },
    /// The file ends before its last line.
    #[error("{name} is cut off after line {line}")]
    CutOff {
        /// The name of the file.
        name: String,
        /// The last line that was read.
        line: u64,
    },
}

//! Errors of a node as a whole.

use std::time::Duration;

use downbeat_storage::{InvalidUpstreamName, StorageError, UpstreamName};

/// Why a node could not be started or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Threads could not be started.
    #[error("the verifier threads could not be started")]
    Threads(#[source] std::io::Error),
    /// The counts of stored bytes could not be read from their file.
    #[error("the file with the stored bytes of keys and accounts cannot be read")]
    Usage(#[source] std::io::Error),
    /// Storage failed while it was closed.
    #[error("storage could not be closed in order")]
    Close(#[source] StorageError),
    /// Accepted content could not be made durable in time. It has not been acknowledged.
    #[error("not all accepted content could be stored within {0:?}")]
    NotDrained(Duration),
    /// The node has been shut down.
    #[error("the node is shut down")]
    ShutDown,
    /// The name of an upstream cannot be used in storage.
    #[error("{name:?} cannot be the name of an upstream")]
    UpstreamName {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidUpstreamName,
    },
}

/// Checks that an upstream's name can be used in storage.
pub(crate) fn check_name(name: &str) -> Result<(), NodeError> {
    match UpstreamName::new(name) {
        Ok(_) => Ok(()),
        Err(source) => Err(NodeError::UpstreamName { name: name.to_owned(), source }),
    }
}

//! Readiness: whether a node can do its work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use downbeat_storage::{Storage, StorageError};

use crate::stats::{Counters, UpstreamStats};

/// How long storage may take for a cheap call.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Whether a node can do its work; from [`Node::ready`](crate::Node::ready).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Readiness {
    /// The trouble with storage, if there is any.
    pub storage: Result<(), StorageTrouble>,
    /// Every upstream, connected or not. [`unsynced`](UpstreamStats::unsynced) is always 0. Without
    /// upstreams the node serves the content that it has.
    pub upstreams: Vec<UpstreamStats>,
}

/// Trouble with a node's storage.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageTrouble {
    /// It did not take the last batch, which the node tries again. Meanwhile the node acknowledges
    /// nothing.
    #[error("storage does not take content")]
    RefusesContent,
    /// It could not answer.
    #[error("storage fails")]
    Fails(#[source] StorageError),
    /// It has not answered within two seconds.
    #[error("storage does not answer")]
    Silent,
}

impl Readiness {
    /// Whether storage works. Upstreams may be away: the node keeps content for them.
    pub fn is_ready(&self) -> bool {
        self.storage.is_ok()
    }

    /// Whether all upstreams are connected as well.
    pub fn is_connected(&self) -> bool {
        self.upstreams.iter().all(|upstream| upstream.connected)
    }
}

/// Checks storage.
pub(crate) async fn ask(storage: &dyn Storage, counters: &Counters) -> Result<(), StorageTrouble> {
    let answers = async {
        storage.check().await?;
        storage.count().await
    };
    match tokio::time::timeout(ANSWER_TIME, answers).await {
        Err(_) => Err(StorageTrouble::Silent),
        Ok(Err(error)) => Err(StorageTrouble::Fails(error)),
        Ok(Ok(_)) if counters.writing_fails.load(Ordering::Relaxed) => {
            Err(StorageTrouble::RefusesContent)
        }
        Ok(Ok(_)) => Ok(()),
    }
}

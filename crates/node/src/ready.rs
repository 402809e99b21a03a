//! Whether a node can do its work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use downbeat_storage::{Storage, StorageError};

use crate::stats::{Counters, UpstreamStats};

/// How long storage may take to answer a question that costs it nothing.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Whether a node can do its work; from [`Node::ready`](crate::Node::ready).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Readiness {
    /// What is wrong with storage, if anything is.
    pub storage: Result<(), StorageTrouble>,
    /// Every upstream, connected or not, without what it lacks
    /// ([`unsynced`](UpstreamStats::unsynced) is 0). Without them the node serves what it has.
    pub upstreams: Vec<UpstreamStats>,
}

/// What is wrong with a node's storage.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageTrouble {
    /// It did not take the last batch, which is tried again. Nothing is acknowledged meanwhile.
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
    /// Whether storage is well. Upstreams may be away: what is written meanwhile is kept for them.
    pub fn is_ready(&self) -> bool {
        self.storage.is_ok()
    }

    /// Whether all upstreams are connected as well.
    pub fn is_connected(&self) -> bool {
        self.upstreams.iter().all(|upstream| upstream.connected)
    }
}

/// Asks storage.
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

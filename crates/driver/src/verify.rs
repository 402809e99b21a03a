//! Verifying runs of transactions: the machine's `Verify` action.

mod hashing;
mod keys;
mod log;
mod stages;
#[cfg(test)]
mod tests;

use downbeat_crypto::{HashChain, InvalidKey};
use downbeat_protocol::{CoValueId, Signature, SignerId};
use downbeat_storage::StorageError;
use downbeat_sync::{Rejection, Verified, VerifyJob};

use self::hashing::{LogHash, Room};
pub use self::keys::Ed25519;
use self::log::StoredLog;
use self::stages::Stage;
use crate::content::ContentStore;
use crate::failure::is_transient;

/// Checks signatures. A simulation that verifies the same logs at many nodes can cache the results.
pub trait SignatureCheck {
    /// The public key of a signer, ready for checks.
    type Key;

    /// Prepares the key of a signer. Called once for each portion of a job.
    fn key(&self, signer: SignerId) -> Result<Self::Key, InvalidKey>;

    /// Whether a signature covers the log that ends with this hash chain.
    fn is_valid(&self, key: &Self::Key, chain: &HashChain, signature: &Signature) -> bool;
}

/// How much of a job is verified in one step.
#[derive(Debug, Clone, Copy)]
pub struct VerifyLimits {
    /// Signatures that are checked.
    pub checks: usize,
    /// Bytes of transactions that are hashed, or read from the log.
    pub bytes: usize,
}

impl Default for VerifyLimits {
    /// 16 signatures and 256 KiB: about a millisecond, which is how long a small job waits behind
    /// the step of a large one.
    fn default() -> Self {
        Self { checks: 16, bytes: 256 << 10 }
    }
}

/// A [`VerifyJob`] that is being verified, step by step: repeated runs have to be the same as the
/// stored log, and the signatures of new runs have to cover the log with them. A deletion needs the
/// consent of the owning group.
///
/// Call [`Self::step`] until it returns `true`, and report [`Self::into_verified`] to the machine.
/// If [`Self::is_worth_a_retry`], report nothing, and call [`Self::step`] again later: it goes on
/// where it stopped.
#[derive(Debug)]
pub struct Verification {
    /// Its hash chain grows with the valid runs. It is `None` until the log before them is read.
    job: VerifyJob,
    stage: Stage,
    log: StoredLog,
    /// How many runs are valid, from the first on.
    accepted: usize,
    failure: Option<Failure>,
}

/// Why a run is not accepted.
#[derive(Debug)]
pub enum Failure {
    /// The run is not valid.
    Rejected(Rejection),
    /// The CoValue that is verified, or a group that its deletion depends on, could not be read.
    Storage {
        /// The CoValue or the group.
        id: CoValueId,
        /// What storage answered.
        error: StorageError,
    },
    /// The stored log of the session is shorter than the machine believes.
    LogTooShort {
        /// The number of transactions in the log.
        count: u64,
        /// The number of transactions that there should be.
        expected: u64,
    },
}

impl Verification {
    /// Begins with a job.
    pub fn new(mut job: VerifyJob) -> Self {
        let log = StoredLog::new(job.id, job.session.clone());
        if job.after == 0 {
            job.chain.get_or_insert_with(HashChain::new);
        }
        let stage = match &job.chain {
            Some(_) => Stage::repeated(&job, 0),
            None => Stage::Log(LogHash::default()),
        };
        Self { job, stage, log, accepted: 0, failure: None }
    }

    /// The job.
    pub fn job(&self) -> &VerifyJob {
        &self.job
    }

    /// Why the run after the valid ones is not accepted, if one is not.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Bytes of stored transactions that were read so far, of the log and of groups. The sender of a
    /// job causes these reads without sending as much.
    pub fn bytes_read(&self) -> u64 {
        self.log.bytes_read()
    }

    /// Verifies the next portion. Returns `true` at the end: when all runs are valid, or one is
    /// not accepted.
    pub async fn step<S: SignatureCheck>(
        &mut self,
        content: &ContentStore,
        signatures: &S,
        limits: VerifyLimits,
    ) -> bool {
        self.failure = None;
        let mut room = Room::new(limits);
        if let Err(failure) = self.advance(content, signatures, &mut room).await {
            self.failure = Some(failure);
            return true;
        }
        matches!(self.stage, Stage::Done)
    }

    /// Ends the verification: the runs that are not verified yet are not accepted.
    pub fn refuse(&mut self, rejection: Rejection) {
        self.stage = Stage::Done;
        self.failure = Some(rejection.into());
    }

    /// Whether the same job may have another result later, because storage failed for now.
    pub fn is_worth_a_retry(&self) -> bool {
        matches!(&self.failure, Some(Failure::Storage { error, .. }) if is_transient(error))
    }

    /// Makes the event for the machine.
    pub fn into_verified(self) -> Verified {
        let VerifyJob { id, session, chain, runs: mut accepted, .. } = self.job;
        accepted.truncate(self.accepted);
        let rejection = self.failure.map(|failure| match failure {
            Failure::Rejected(rejection) => rejection,
            Failure::Storage { .. } | Failure::LogTooShort { .. } => Rejection::Unreadable,
        });
        Verified { id, session, accepted, chain, rejection }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Verifies a whole job.
pub async fn verify<S: SignatureCheck>(
    content: &ContentStore,
    signatures: &S,
    job: VerifyJob,
) -> Verification {
    let mut verification = Verification::new(job);
    while !verification.step(content, signatures, VerifyLimits::default()).await {}
    verification
}

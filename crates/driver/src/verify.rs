//! Verifying runs of transactions: the machine's `Verify` action.

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::extend_chain;
use downbeat_core::roles::Member;
use downbeat_crypto::{HashChain, InvalidKey, VerifyingKey};
use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId, Signature, SignerId};
use downbeat_storage::StorageError;
use downbeat_sync::{Rejection, Verified, VerifyJob};

use crate::content::ContentStore;
use crate::failure::is_transient;
use crate::roles::load_family;

/// Checks signatures. A simulation that verifies the same logs at many nodes can cache the results.
pub trait SignatureCheck {
    /// The public key of a signer, ready for checks.
    type Key;

    /// Prepares the key of a signer. Called once for each job.
    fn key(&self, signer: SignerId) -> Result<Self::Key, InvalidKey>;

    /// Whether a signature covers the log that ends with this hash chain.
    fn is_valid(&self, key: &Self::Key, chain: &HashChain, signature: &Signature) -> bool;
}

/// Checks each signature with Ed25519.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ed25519;

impl SignatureCheck for Ed25519 {
    type Key = VerifyingKey;

    fn key(&self, signer: SignerId) -> Result<VerifyingKey, InvalidKey> {
        VerifyingKey::new(signer)
    }

    fn is_valid(&self, key: &VerifyingKey, chain: &HashChain, signature: &Signature) -> bool {
        key.verify_chain(chain, signature).is_ok()
    }
}

/// The result of verifying a [`VerifyJob`].
#[derive(Debug)]
pub struct Verification {
    /// How many runs are valid, from the first on.
    pub accepted: usize,
    /// The hash chain after the valid runs. `None` if the log before them could not be read.
    pub chain: Option<HashChain>,
    /// Why the run after the valid ones is not accepted, if one is not.
    pub failure: Option<Failure>,
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
    /// Whether the same job may have another result later, because storage failed for now.
    pub fn is_worth_a_retry(&self) -> bool {
        matches!(&self.failure, Some(Failure::Storage { error, .. }) if is_transient(error))
    }

    /// Makes the event for the machine out of the job and its result.
    pub fn into_verified(self, job: VerifyJob) -> Verified {
        let VerifyJob { id, session, runs: mut accepted, .. } = job;
        accepted.truncate(self.accepted);
        let rejection = self.failure.map(|failure| match failure {
            Failure::Rejected(rejection) => rejection,
            Failure::Storage { .. } | Failure::LogTooShort { .. } => Rejection::Unreadable,
        });
        Verified { id, session, accepted, chain: self.chain, rejection }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Verifies a job: repeated runs have to be the same as the stored log, and the signatures of new
/// runs have to cover the log with them. A deletion needs the consent of the owning group.
///
/// Stops at the first run that is not accepted. If [`Verification::is_worth_a_retry`], nothing has
/// to be reported to the machine: verify the same job again later.
pub async fn verify<S: SignatureCheck>(
    content: &ContentStore,
    signatures: &S,
    job: &VerifyJob,
) -> Verification {
    let mut verification = Verification { accepted: 0, chain: None, failure: None };
    let verified = verify_runs(content, signatures, job, &mut verification).await;
    verification.failure = verified.err();
    verification
}

async fn verify_runs<S: SignatureCheck>(
    content: &ContentStore,
    signatures: &S,
    job: &VerifyJob,
    verification: &mut Verification,
) -> Result<(), Failure> {
    let key = signatures.key(job.signer).map_err(|_| Rejection::InvalidSigner)?;
    let key = &key;
    let check = |run: &SessionContent| {
        let (signature, after) = (run.last_signature, run.after);
        move |chain: &HashChain| {
            let is_valid = signatures.is_valid(key, chain, &signature);
            if is_valid { Ok(()) } else { Err(Rejection::BadSignature { after }) }
        }
    };
    let log = StoredLog { content, id: job.id, session: &job.session };
    let chain = match &job.chain {
        Some(chain) => chain.clone(),
        None => log.chain(job.after).await?,
    };
    let chain = verification.chain.insert(chain);
    for run in &job.repeated {
        let Some(at) = log.first_difference(run, job.after).await? else { continue };
        // The run is a fork if the author has signed the log that it makes.
        let before = log.chain(run.after).await?;
        extend_chain(&before, &run.transactions, check(run))?;
        return Err(Rejection::Forked { at }.into());
    }
    for run in &job.runs {
        let next = extend_chain(chain, &run.transactions, check(run))?;
        if let Some(claim) = &job.claim {
            check_claim(content, claim).await?;
        }
        *chain = next;
        verification.accepted += 1;
    }
    Ok(())
}

/// Checks whether the author of a deletion was an admin of the owning group at the time.
async fn check_claim(content: &ContentStore, claim: &Claim) -> Result<(), Failure> {
    let family = load_family(content, claim.group).await;
    let family = family.map_err(|error| Failure::Storage { id: claim.group, error })?;
    let author = Member::from(claim.author.clone());
    let role = family.and_then(|mut family| {
        family.roles.role_of(claim.group, &author, Some(claim.made_at)).ok()
    });
    let decision = role.ok_or(DeleteError::RoleUnknown).and_then(|role| claim.decide(role));
    decision.map_err(|error| Rejection::from(error).into())
}

/// The log of a session, as it can be read.
struct StoredLog<'a> {
    content: &'a ContentStore,
    id: CoValueId,
    session: &'a SessionId,
}

impl StoredLog<'_> {
    /// The hash chain of the first `count` transactions.
    async fn chain(&self, count: u64) -> Result<HashChain, Failure> {
        let mut chain = HashChain::new();
        if count == 0 {
            return Ok(chain);
        }
        let until = self.until(count);
        let mut at = 0;
        while at < count {
            let before = at;
            for run in self.read(&until, at).await? {
                if run.session != *self.session || run.after != at {
                    continue;
                }
                let wanted = usize::try_from(count - at).unwrap_or(usize::MAX);
                chain.append_all(run.transactions.iter().take(wanted).map(|tx| &tx.json()[..]));
                at = run.end().min(count);
            }
            if at == before {
                return Err(Failure::LogTooShort { count: at, expected: count });
            }
        }
        Ok(chain)
    }

    /// Compares a repeated run with the first `count` transactions of the log. Returns the position
    /// of the first transaction that differs.
    async fn first_difference(
        &self,
        run: &SessionContent,
        count: u64,
    ) -> Result<Option<u64>, Failure> {
        let end = count.min(run.end());
        let until = self.until(end);
        let mut at = run.after;
        let mut theirs = run.transactions.iter();
        while at < end {
            let before = at;
            let ours = self.read(&until, at).await?;
            for ours in ours.iter().filter(|ours| ours.session == run.session) {
                for (ours, theirs) in ours.transactions.iter().zip(theirs.by_ref()) {
                    if ours != theirs {
                        return Ok(Some(at));
                    }
                    at += 1;
                }
            }
            if at == before {
                return Err(Failure::LogTooShort { count: at, expected: count });
            }
        }
        Ok(None)
    }

    async fn read(&self, until: &SessionCounts, from: u64) -> Result<Vec<SessionContent>, Failure> {
        let runs = self.content.read_session(self.id, until, from).await;
        runs.map_err(|error| Failure::Storage { id: self.id, error })
    }

    fn until(&self, count: u64) -> SessionCounts {
        SessionCounts::from_iter([(self.session.clone(), count)])
    }
}

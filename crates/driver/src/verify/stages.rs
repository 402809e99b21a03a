//! The stages of a verification.

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::Member;
use downbeat_crypto::HashChain;
use downbeat_protocol::SessionContent;
use downbeat_sync::{Rejection, VerifyJob};

use super::hashing::{Extension, LogHash, Room};
use super::log::StoredLog;
use super::{Failure, SignatureCheck, Verification};
use crate::content::ContentStore;
use crate::roles::load_family;

/// What a verification does next.
#[derive(Debug)]
pub(super) enum Stage {
    /// Hashes the log before the first new run.
    Log(LogHash),
    /// Compares a repeated run with the log, from a position on.
    Repeated {
        run: usize,
        at: u64,
    },
    /// Hashes the log before a repeated run, which differs from the log at a position.
    BeforeFork {
        run: usize,
        at: u64,
        before: LogHash,
    },
    /// Hashes that run, to check its signature. If it is valid, the author has forked its session.
    Fork {
        run: usize,
        at: u64,
        extension: Extension,
    },
    /// Hashes the next new run, to check its signature. Without an extension it is not begun.
    Run(Option<Extension>),
    Done,
}

impl Stage {
    /// A repeated run, or the new runs if there are no more of those.
    pub(super) fn repeated(job: &VerifyJob, run: usize) -> Self {
        match job.repeated.get(run) {
            Some(repeated) => Self::Repeated { run, at: repeated.after },
            None => Self::run(job, 0),
        }
    }

    fn run(job: &VerifyJob, accepted: usize) -> Self {
        if accepted < job.runs.len() { Self::Run(None) } else { Self::Done }
    }
}

/// The key of the signer, and the check of its signatures.
struct Signatures<'a, S: SignatureCheck> {
    check: &'a S,
    key: S::Key,
}

impl<S: SignatureCheck> Signatures<'_, S> {
    /// Checks whether the signature of a run covers the log that ends with it.
    fn check(
        &self,
        run: &SessionContent,
        chain: &HashChain,
        room: &mut Room,
    ) -> Result<(), Rejection> {
        room.take_check();
        let is_valid = self.check.is_valid(&self.key, chain, &run.last_signature);
        if is_valid { Ok(()) } else { Err(Rejection::BadSignature { after: run.after }) }
    }
}

impl Verification {
    /// Goes on until there is no room left, or nothing to do.
    pub(super) async fn advance<S: SignatureCheck>(
        &mut self,
        content: &ContentStore,
        check: &S,
        room: &mut Room,
    ) -> Result<(), Failure> {
        let key = check.key(self.job.signer).map_err(|_| Rejection::InvalidSigner)?;
        let signatures = Signatures { check, key };
        while room.is_left() && !matches!(self.stage, Stage::Done) {
            let next = match &mut self.stage {
                Stage::Log(hash) => {
                    let is_read = hash.advance(&mut self.log, content, self.job.after, room);
                    is_read.await?.then(|| {
                        self.job.chain = Some(std::mem::take(&mut hash.chain));
                        Stage::repeated(&self.job, 0)
                    })
                }
                Stage::Repeated { .. } | Stage::BeforeFork { .. } | Stage::Fork { .. } => {
                    self.compare(content, &signatures, room).await?
                }
                Stage::Run(_) => self.extend(content, &signatures, room).await?,
                Stage::Done => None,
            };
            if let Some(next) = next {
                self.stage = next;
            }
        }
        Ok(())
    }

    /// Goes on with a repeated run. Returns the next stage at the end of this one.
    async fn compare<S: SignatureCheck>(
        &mut self,
        content: &ContentStore,
        signatures: &Signatures<'_, S>,
        room: &mut Room,
    ) -> Result<Option<Stage>, Failure> {
        let Self { job, stage, log, .. } = self;
        let (Stage::Repeated { run: number, .. }
        | Stage::BeforeFork { run: number, .. }
        | Stage::Fork { run: number, .. }) = stage
        else {
            return Ok(None);
        };
        let number = *number;
        let Some(run) = job.repeated.get(number) else { return Ok(Some(Stage::run(job, 0))) };
        match stage {
            Stage::Repeated { at, .. } => {
                let end = job.after.min(run.end());
                let differs = log.compare(content, run, at, end, room).await?;
                let fork = differs.map(|at| {
                    let before = LogHash::default();
                    Stage::BeforeFork { run: number, at, before }
                });
                Ok(fork.or_else(|| (*at >= end).then(|| Stage::repeated(job, number + 1))))
            }
            Stage::BeforeFork { at, before, .. } => {
                let is_read = before.advance(log, content, run.after, room).await?;
                Ok(is_read.then(|| {
                    let extension = Extension::of(std::mem::take(&mut before.chain));
                    Stage::Fork { run: number, at: *at, extension }
                }))
            }
            Stage::Fork { at, extension, .. } => {
                if !extension.advance(&run.transactions, room) {
                    return Ok(None);
                }
                signatures.check(run, &extension.chain, room)?;
                Err(Rejection::Forked { at: *at }.into())
            }
            Stage::Log(_) | Stage::Run(_) | Stage::Done => Ok(None),
        }
    }

    /// Goes on with the next new run. Returns the next stage at the end of this one.
    async fn extend<S: SignatureCheck>(
        &mut self,
        content: &ContentStore,
        signatures: &Signatures<'_, S>,
        room: &mut Room,
    ) -> Result<Option<Stage>, Failure> {
        let Stage::Run(extension) = &mut self.stage else { return Ok(None) };
        let Some(run) = self.job.runs.get(self.accepted) else { return Ok(Some(Stage::Done)) };
        let begin = || Extension::of(self.job.chain.clone().unwrap_or_default());
        let extension = extension.get_or_insert_with(begin);
        if !extension.advance(&run.transactions, room) {
            return Ok(None);
        }
        signatures.check(run, &extension.chain, room)?;
        if let Some(claim) = &self.job.claim {
            check_claim(content, claim, &mut self.log).await?;
        }
        if let Stage::Run(extension) = std::mem::replace(&mut self.stage, Stage::Done) {
            self.job.chain = extension.map(|extension| extension.chain);
        }
        self.accepted += 1;
        Ok(Some(Stage::run(&self.job, self.accepted)))
    }
}

/// Checks whether the author of a deletion was an admin of the owning group at the time.
async fn check_claim(
    content: &ContentStore,
    claim: &Claim,
    log: &mut StoredLog,
) -> Result<(), Failure> {
    let family = load_family(content, claim.group).await;
    let family = family.map_err(|error| Failure::Storage { id: claim.group, error })?;
    log.count_read(family.as_ref().map_or(0, |family| family.bytes));
    let author = Member::from(claim.author.clone());
    let role = family.and_then(|mut family| {
        family.roles.role_of(claim.group, &author, Some(claim.made_at)).ok()
    });
    let decision = role.ok_or(DeleteError::RoleUnknown).and_then(|role| claim.decide(role));
    decision.map_err(|error| Rejection::from(error).into())
}

//! Checks a CoValue run by run: its id, hash chains, signatures and deletions.
//!
//! Content is not collected, so memory does not grow with the size of a CoValue.

use std::collections::BTreeMap;

use downbeat_core::delete::{self, DeleteError};
use downbeat_core::{extend_chain, new_part};
use downbeat_crypto::{HashChain, InvalidKey, VerifyingKey, header_id};
use downbeat_protocol::{
    CoValueId, Header, Owner, SessionContent, SessionCounts, SessionId, Transaction,
};
use downbeat_storage::{Damage, StorageError, StoredCoValue};

use crate::directory::Directory;
use crate::store::{Step, Store};

/// A CoValue, up to the transactions that have been checked.
pub(crate) struct Checked {
    id: CoValueId,
    header: Header,
    deleted: bool,
    logs: BTreeMap<SessionId, Log>,
    /// The store with the transactions that were checked at an earlier time.
    before: Option<Store>,
}

#[derive(Default)]
struct Log {
    count: u64,
    /// The hash chain up to `count`, once it is computed.
    chain: Option<HashChain>,
    key: Option<VerifyingKey>,
}

/// A valid run, without the transactions that were known before.
pub(crate) struct Extension {
    /// The run.
    pub content: SessionContent,
    /// Whether it deletes the CoValue.
    pub deletes: bool,
}

/// Why content is broken or left out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The header has another id.
    #[error("the header is that of {0}")]
    WrongHeader(CoValueId),
    /// The header is missing.
    #[error("there is no header")]
    NoHeader,
    /// The account that signs the session is missing, or is no account.
    #[error("the account {0} that signs it is missing, or is no account")]
    UnknownAccount(CoValueId),
    /// The key of the author is not a valid key.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// A signature does not match the transactions.
    #[error("the signature of transactions {after} to {end} is invalid")]
    BadSignature {
        /// The first transaction.
        after: u64,
        /// The end of the range, exclusive.
        end: u64,
    },
    /// Transactions are missing in a session.
    #[error("transactions {have} to {after} are missing")]
    Gap {
        /// The first missing transaction.
        have: u64,
        /// The end of the gap, exclusive.
        after: u64,
    },
    /// A deletion is invalid.
    #[error("not a valid deletion: {0}")]
    Deletion(#[from] DeleteError),
    /// The store marks the CoValue as deleted without a valid deletion.
    #[error("it is marked as deleted, but has no valid deletion")]
    NotDeleted,
    /// Stored bytes are damaged.
    #[error("{0}")]
    Damaged(Damage),
    /// A note of what an upstream has not acknowledged, or the list of these notes, is damaged.
    #[error("the list of CoValues that upstreams have not acknowledged cannot be read: {0}")]
    Notes(Damage),
    /// A line of a file is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The target has other transactions in this session.
    #[error("the target has a different log, with {stored} transactions")]
    Conflict {
        /// The transactions in the target.
        stored: u64,
    },
    /// The list of CoValues and the stored totals differ.
    #[error("the store lists {listed} CoValues, but its totals say {counted}")]
    WrongCount {
        /// CoValues in the list.
        listed: u64,
        /// CoValues according to the totals.
        counted: u64,
    },
}

/// Why a run was not accepted.
pub(crate) enum CheckFailure {
    /// The run is invalid.
    Reason(Reason),
    /// The check itself failed.
    Storage(StorageError),
}

impl Checked {
    /// A CoValue with a header and no transactions yet.
    pub(crate) fn new(id: CoValueId, header: Header) -> Result<Self, Reason> {
        let actual = header_id(&header);
        if actual != id {
            return Err(Reason::WrongHeader(actual));
        }
        Ok(Self { id, header, deleted: false, logs: BTreeMap::new(), before: None })
    }

    /// A CoValue that is in a store already. Its content there is trusted.
    ///
    /// With `recheck_deletion`, the delete sessions count as unknown and are checked again, because
    /// they are about to delete the CoValue.
    pub(crate) fn stored(
        id: CoValueId,
        stored: &StoredCoValue,
        store: &Store,
        recheck_deletion: bool,
    ) -> Self {
        let logs = stored
            .sessions
            .iter()
            .filter(|session| !(recheck_deletion && session.session.is_delete()))
            .map(|session| {
                (session.session.clone(), Log { count: session.count, ..Log::default() })
            })
            .collect();
        let header = stored.header.clone();
        Self { id, header, deleted: stored.deleted, logs, before: Some(store.clone()) }
    }

    /// Accepts the new part of a run, if it is valid. A deleted CoValue accepts delete sessions
    /// only.
    pub(crate) fn extend(
        &mut self,
        run: &SessionContent,
        directory: &Directory,
    ) -> Result<Option<Extension>, CheckFailure> {
        if self.deleted && !run.session.is_delete() {
            return Ok(None);
        }
        let log = self.logs.entry(run.session.clone()).or_default();
        let have = log.count;
        let new = new_part(have, run).map_err(|_| Reason::Gap { have, after: run.after })?;
        if new.is_empty() {
            return Ok(None);
        }

        let claim = delete::claim(self.id, &self.header, &run.session, have, new)?;
        let key = match &log.key {
            Some(key) => key,
            None => log.key.insert(key_of(self.id, &self.header, &run.session, directory)?),
        };
        let chain = match (&log.chain, &self.before) {
            (Some(chain), _) => chain.clone(),
            (None, Some(store)) if have > 0 => rebuild(store, self.id, &run.session, have)?,
            (None, _) => HashChain::new(),
        };
        let chain = extend_chain(&chain, new, |chain| key.verify_chain(chain, &run.last_signature))
            .map_err(|_| Reason::BadSignature { after: have, end: run.end() })?;
        if let Some(claim) = &claim {
            directory.may_delete(claim)??;
            self.deleted = true;
        }
        log.count = run.end();
        log.chain = Some(chain);
        let content = SessionContent {
            session: run.session.clone(),
            after: have,
            transactions: new.to_vec(),
            last_signature: run.last_signature,
        };
        Ok(Some(Extension { content, deletes: claim.is_some() }))
    }

    /// The id of the CoValue.
    pub(crate) fn id(&self) -> CoValueId {
        self.id
    }

    /// The header of the CoValue.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The number of valid transactions of each session.
    pub(crate) fn counts(&self) -> SessionCounts {
        self.logs.iter().map(|(session, log)| (session.clone(), log.count)).collect()
    }

    /// Whether the CoValue has a valid deletion.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }
}

/// Reads and checks a CoValue in a store beyond some counts. Passes valid runs to `sink` as they
/// are read, and problems to `refuse`, with the session that has the problem.
///
/// The rest of a session after a problem is skipped.
pub(crate) fn check<E: From<StorageError>>(
    store: &Store,
    have: SessionCounts,
    checked: &mut Checked,
    directory: &Directory,
    mut sink: impl FnMut(&Checked, Vec<Extension>) -> Result<(), E>,
    mut refuse: impl FnMut(Option<&SessionId>, Reason),
) -> Result<(), E> {
    let mut reading = store.read(checked.id, have);
    let mut given_up: Vec<SessionId> = Vec::new();
    while let Some(step) = reading.next()? {
        let runs = match step {
            Step::Runs(runs) => runs,
            Step::Damage(damage) => {
                let session = damage.session().cloned();
                refuse(session.as_ref(), Reason::Damaged(damage));
                given_up.extend(session);
                continue;
            }
        };
        let mut extensions = Vec::with_capacity(runs.len());
        for run in runs {
            if given_up.contains(&run.session) {
                continue;
            }
            let accepted = match checked.extend(&run, directory) {
                Err(CheckFailure::Reason(Reason::BadSignature { .. })) => {
                    accept_in_steps(store, checked, &run, directory, &mut extensions)
                }
                Ok(extension) => {
                    extensions.extend(extension);
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            };
            match accepted {
                Ok(()) => {}
                Err(CheckFailure::Storage(error)) => return Err(error.into()),
                Err(CheckFailure::Reason(reason)) => {
                    refuse(Some(&run.session), reason);
                    given_up.push(run.session);
                }
            }
        }
        sink(checked, extensions)?;
    }
    Ok(())
}

/// Accepts the valid part of a run that is invalid as a whole. A run that was read as one may have
/// been stored under several signatures.
fn accept_in_steps(
    store: &Store,
    checked: &mut Checked,
    run: &SessionContent,
    directory: &Directory,
    extensions: &mut Vec<Extension>,
) -> Result<(), CheckFailure> {
    let have = checked.logs.get(&run.session).map_or(0, |log| log.count);
    let mut reading = store.read_steps(checked.id, &run.session, have)?;
    while checked.logs.get(&run.session).is_none_or(|log| log.count < run.end()) {
        match reading.next()? {
            Some(Step::Runs(runs)) => {
                for run in &runs {
                    extensions.extend(checked.extend(run, directory)?);
                }
            }
            Some(Step::Damage(damage)) => return Err(Reason::Damaged(damage).into()),
            None => return Err(Reason::BadSignature { after: have, end: run.end() }.into()),
        }
    }
    Ok(())
}

/// The key that verifies a session's log.
fn key_of(
    id: CoValueId,
    header: &Header,
    session: &SessionId,
    directory: &Directory,
) -> Result<VerifyingKey, CheckFailure> {
    match session.owner() {
        Owner::Agent(agent) => Ok(VerifyingKey::new(agent.signer()).map_err(Reason::from)?),
        // An account that writes to itself has its key in its own header.
        Owner::Account(account) if *account == id => {
            let agent = header.account_agent().ok_or(Reason::UnknownAccount(id))?;
            Ok(VerifyingKey::new(agent.signer()).map_err(Reason::from)?)
        }
        Owner::Account(account) => directory.key(*account),
    }
}

/// The hash chain of the first `count` transactions of a session in a store.
fn rebuild(
    store: &Store,
    id: CoValueId,
    session: &SessionId,
    count: u64,
) -> Result<HashChain, CheckFailure> {
    let mut reading = store.read_session(id, session)?;
    let (mut chain, mut at) = (HashChain::new(), 0);
    while at < count {
        match reading.next()? {
            Some(Step::Runs(runs)) => {
                for run in runs.iter().filter(|run| run.session == *session) {
                    let wanted = usize::try_from(count - at).unwrap_or(usize::MAX);
                    let transactions = run.transactions.iter().take(wanted);
                    chain.append_all(transactions.map(Transaction::json).map(|json| &json[..]));
                    at = run.end().min(count);
                }
            }
            Some(Step::Damage(damage)) => return Err(Reason::Damaged(damage).into()),
            None => return Err(Reason::Gap { have: at, after: count }.into()),
        }
    }
    Ok(chain)
}

impl From<Reason> for CheckFailure {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl From<DeleteError> for CheckFailure {
    fn from(error: DeleteError) -> Self {
        Self::Reason(error.into())
    }
}

impl From<StorageError> for CheckFailure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupt(damage) => Self::Reason(Reason::Damaged(damage)),
            error => Self::Storage(error),
        }
    }
}

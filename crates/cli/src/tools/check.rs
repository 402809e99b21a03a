//! Checking a CoValue run by run: the id, the hash chains and signatures, and deletions.
//!
//! Content is not gathered, so the size of a CoValue does not matter.

use std::collections::BTreeMap;

use downbeat_core::delete::{self, DeleteError};
use downbeat_crypto::{HashChain, InvalidKey, VerifyingKey, header_id};
use downbeat_protocol::{
    CoValueId, Header, Owner, SessionContent, SessionCounts, SessionId, Transaction,
};
use downbeat_storage::{Damage, StorageError, Stored};

use super::directory::Directory;
use super::store::{Step, Store};

/// A CoValue as far as it has been found to be in order.
pub(crate) struct Checked {
    id: CoValueId,
    header: Header,
    deleted: bool,
    logs: BTreeMap<SessionId, Log>,
    /// Where the transactions are that were there before, if any were.
    before: Option<Store>,
}

#[derive(Default)]
struct Log {
    count: u64,
    /// The hash chain up to `count`, once it has been needed.
    chain: Option<HashChain>,
    key: Option<VerifyingKey>,
}

/// A run that is in order, without the transactions that were there before.
pub(crate) struct Extension {
    /// The run.
    pub content: SessionContent,
    /// Whether it deletes the CoValue.
    pub deletes: bool,
}

/// Why something is not in order.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("the header is that of {0}")]
    WrongHeader(CoValueId),
    #[error("there is no header")]
    NoHeader,
    #[error("the account {0} that signs it is not there, or is no account")]
    UnknownAccount(CoValueId),
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    #[error("the signature of transactions {after} to {end} does not hold")]
    BadSignature { after: u64, end: u64 },
    #[error("transactions {have} to {after} are missing")]
    Gap { have: u64, after: u64 },
    #[error("not a valid deletion: {0}")]
    Deletion(#[from] DeleteError),
    #[error("it is marked as deleted, and no valid deletion is there")]
    NotDeleted,
    #[error("{0}")]
    Damaged(Damage),
    #[error("{0}")]
    Malformed(String),
    #[error("it went another way in the target, which has {stored} transactions")]
    Conflict { stored: u64 },
    #[error("the list of CoValues says {listed}, and the totals say {counted}")]
    WrongCount { listed: u64, counted: u64 },
}

/// Why a run is not taken.
pub(crate) enum Refusal {
    /// It is not in order.
    Reason(Reason),
    /// That could not be found out.
    Storage(StorageError),
}

impl Checked {
    /// A CoValue of which nothing but the header is there.
    pub(crate) fn new(id: CoValueId, header: Header) -> Result<Self, Reason> {
        let actual = header_id(&header);
        if actual != id {
            return Err(Reason::WrongHeader(actual));
        }
        Ok(Self { id, header, deleted: false, logs: BTreeMap::new(), before: None })
    }

    /// A CoValue that is in a store already, where it is held to be in order.
    ///
    /// If `anew`, its delete sessions are passed over, to be checked once more: it is going to be
    /// deleted by them.
    pub(crate) fn stored(id: CoValueId, stored: &Stored, store: &Store, anew: bool) -> Self {
        let logs = stored
            .sessions
            .iter()
            .filter(|session| !(anew && session.session.is_delete()))
            .map(|session| {
                (session.session.clone(), Log { count: session.count, ..Log::default() })
            })
            .collect();
        let header = stored.header.clone();
        Self { id, header, deleted: stored.deleted, logs, before: Some(store.clone()) }
    }

    /// Takes what is new in a run, if it is in order. Nothing is new to a deleted CoValue but in
    /// delete sessions.
    pub(crate) fn extend(
        &mut self,
        run: &SessionContent,
        directory: &Directory,
    ) -> Result<Option<Extension>, Refusal> {
        if self.deleted && !run.session.is_delete() {
            return Ok(None);
        }
        let log = self.logs.entry(run.session.clone()).or_default();
        let have = log.count;
        let gap = Reason::Gap { have, after: run.after };
        let known = have.checked_sub(run.after).ok_or(gap)?;
        let new = usize::try_from(known).ok().and_then(|known| run.transactions.get(known..));
        let Some(new) = new.filter(|new| !new.is_empty()) else { return Ok(None) };

        let claim = delete::claim(self.id, &self.header, &run.session, have, new)?;
        let key = match &log.key {
            Some(key) => key,
            None => log.key.insert(key_of(self.id, &self.header, &run.session, directory)?),
        };
        let mut chain = match (&log.chain, &self.before) {
            (Some(chain), _) => chain.clone(),
            (None, Some(store)) if have > 0 => rebuild(store, self.id, &run.session, have)?,
            (None, _) => HashChain::new(),
        };
        chain.append_all(new.iter().map(|transaction| &transaction.json()[..]));
        key.verify_chain(&chain, &run.last_signature)
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

    /// The CoValue.
    pub(crate) fn id(&self) -> CoValueId {
        self.id
    }

    /// Its header.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Whether a valid deletion is there.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }
}

/// Goes through what a store has of a CoValue beyond some counts, gives to `sink` what is in order
/// as it is read, and to `refuse` what is not: a session's name, if it is about one, and why.
///
/// What follows something wrong in a session is not looked at.
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
            let taken = match checked.extend(&run, directory) {
                Err(Refusal::Reason(Reason::BadSignature { .. })) => {
                    take_in_steps(store, checked, &run, directory, &mut extensions)
                }
                Ok(extension) => {
                    extensions.extend(extension);
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            };
            match taken {
                Ok(()) => {}
                Err(Refusal::Storage(error)) => return Err(error.into()),
                Err(Refusal::Reason(reason)) => {
                    refuse(Some(&run.session), reason);
                    given_up.push(run.session);
                }
            }
        }
        sink(checked, extensions)?;
    }
    Ok(())
}

/// Takes what holds of a run that as a whole does not: it was read as one, but may have been
/// stored under several signatures.
fn take_in_steps(
    store: &Store,
    checked: &mut Checked,
    run: &SessionContent,
    directory: &Directory,
    extensions: &mut Vec<Extension>,
) -> Result<(), Refusal> {
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
) -> Result<VerifyingKey, Refusal> {
    match session.owner() {
        Owner::Agent(agent) => Ok(VerifyingKey::new(agent.signer()).map_err(Reason::from)?),
        // An account writes to itself.
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
) -> Result<HashChain, Refusal> {
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

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl From<DeleteError> for Refusal {
    fn from(error: DeleteError) -> Self {
        Self::Reason(error.into())
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupt(damage) => Self::Reason(Reason::Damaged(damage)),
            error => Self::Storage(error),
        }
    }
}

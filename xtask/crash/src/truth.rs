//! The written content, and the acknowledged part of it. Checks copies from the server against
//! both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use downbeat_core::delete::Claim;
use downbeat_core::{CoValue, DeleteError, Directory, dependencies, known_state};
use downbeat_crypto::SignerSecret;
use downbeat_protocol::{
    AgentId, CoValueId, Content, Header, KnownState, SessionCounts, SessionId, Transaction,
};

/// All written content. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    values: Arc<Mutex<BTreeMap<CoValueId, True>>>,
    journal: Option<Arc<Journal>>,
}

/// The acknowledgements, each with the length that a growing file had after it was received.
#[derive(Debug)]
struct Journal {
    file: PathBuf,
    entries: Mutex<Vec<(u64, KnownState)>>,
}

/// The written content of a CoValue.
#[derive(Debug, Clone)]
struct True {
    /// The content without the deletion.
    value: CoValue,
    /// The content with the deletion, if there is one.
    deleted: Option<CoValue>,
    acknowledged: KnownState,
    /// Whether there were writes since the last call of [`Truth::take_touched`].
    touched: bool,
}

/// Counts of content.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    pub(crate) co_values: usize,
    pub(crate) deleted: usize,
    pub(crate) written: u64,
    pub(crate) acknowledged: u64,
}

impl Truth {
    /// Nothing is written yet. Each acknowledgement is noted with the length of this file.
    pub(crate) fn with_journal(file: PathBuf) -> Self {
        let journal = Journal { file, entries: Mutex::default() };
        Self { values: Arc::default(), journal: Some(Arc::new(journal)) }
    }

    /// The acknowledgements in their order. Each was received when the file had this length.
    pub(crate) fn journal(&self) -> Vec<(u64, KnownState)> {
        self.journal.as_ref().map_or_else(Vec::new, |journal| lock(&journal.entries).clone())
    }

    /// A copy that shares nothing with this, and has no journal.
    pub(crate) fn copy(&self) -> Self {
        Self { values: Arc::new(Mutex::new(self.lock().clone())), journal: None }
    }

    /// A copy in which nothing is acknowledged.
    pub(crate) fn unacknowledged(&self) -> Self {
        let copy = self.copy();
        for (id, truth) in &mut *copy.lock() {
            truth.acknowledged = KnownState::empty(*id);
        }
        copy
    }

    /// Adds a CoValue, if it is new.
    pub(crate) fn create(&self, header: Header) -> CoValueId {
        let value = CoValue::new(header);
        let id = value.id();
        let acknowledged = KnownState::empty(id);
        self.lock().entry(id).or_insert(True { value, deleted: None, acknowledged, touched: true });
        id
    }

    /// Writes a transaction. `false` if the CoValue is deleted or does not exist.
    pub(crate) fn write(
        &self,
        id: CoValueId,
        session: &SessionId,
        transaction: Transaction,
        secret: &SignerSecret,
    ) -> Result<bool> {
        let mut values = self.lock();
        let Some(truth) = values.get_mut(&id) else { return Ok(false) };
        if truth.deleted.is_some() {
            return Ok(false);
        }
        truth.touched = true;
        if session.is_delete() {
            let mut deleted = truth.value.clone();
            deleted.append(session, transaction, secret)?;
            truth.deleted = Some(deleted);
        } else {
            truth.value.append(session, transaction, secret)?;
        }
        Ok(true)
    }

    /// The content beyond a known state.
    pub(crate) fn content_since(&self, id: CoValueId, known: Option<&KnownState>) -> Vec<Content> {
        self.lock().get(&id).map_or_else(Vec::new, |truth| truth.newest().content_since(known))
    }

    /// The known state of all written content. For a deleted CoValue it includes the deletion.
    pub(crate) fn known_state(&self, id: CoValueId) -> Option<KnownState> {
        self.lock().get(&id).map(|truth| truth.newest().known_state())
    }

    /// Records an acknowledgement of the server, which must not exceed the written content. For a
    /// deleted CoValue the server also acknowledges all other sessions, so that clients do not send
    /// them again; these counts are ignored.
    pub(crate) fn acknowledge(&self, state: &KnownState) -> Result<()> {
        if let Some(Journal { file, entries }) = self.journal.as_deref() {
            let len = fs::metadata(file).context("there is no log of the calls")?.len();
            lock(entries).push((len, state.clone()));
        }
        let mut values = self.lock();
        let Some(truth) = values.get_mut(&state.id) else {
            ensure!(!state.header, "{} is acknowledged, but was never created", state.id);
            return Ok(());
        };
        let is_deleted = state.sessions.iter().any(|(session, _)| session.is_delete());
        let told = state.sessions.iter().filter(|(session, _)| !is_deleted || session.is_delete());
        let told: SessionCounts = told.collect();
        for (session, count) in &told {
            let written = truth.written(session);
            ensure!(
                *count <= written,
                "{count} transactions of {} {session} are acknowledged, of {written} written",
                state.id
            );
        }
        truth.acknowledged.header |= state.header;
        known_state::merge_counts(&mut truth.acknowledged.sessions, &told);
        Ok(())
    }

    /// Whether a copy has all acknowledged content.
    pub(crate) fn has_all(&self, id: CoValueId, copy: Option<&CoValue>) -> bool {
        self.lock().get(&id).is_none_or(|truth| truth.lost(copy).is_none())
    }

    /// Checks a copy from the server, whose signatures have been verified. It must be a part of the
    /// written content, and have all acknowledged content.
    pub(crate) fn check(&self, id: CoValueId, copy: Option<&CoValue>) -> Result<()> {
        let lost = self.lock().get(&id).and_then(|truth| truth.lost(copy));
        if let Some(lost) = lost {
            bail!("LOST: {id}: {lost}");
        }
        copy.map_or(Ok(()), |copy| self.check_part(copy))
    }

    /// Checks that a copy is a part of the written content.
    pub(crate) fn check_part(&self, copy: &CoValue) -> Result<()> {
        let id = copy.id();
        let values = self.lock();
        let truth = values.get(&id).with_context(|| format!("{id} was never created"))?;
        let written = match &truth.deleted {
            Some(deleted) if copy.is_deleted() => deleted,
            None if copy.is_deleted() => bail!("{id} is deleted, but no client has deleted it"),
            _ => &truth.value,
        };
        for log in copy.sessions() {
            let have = log.transactions();
            let written = written.session(log.session()).map_or(&[][..], |log| log.transactions());
            let is_part = written.get(..have.len()).is_some_and(|written| {
                written.iter().zip(have).all(|(one, other)| one.json() == other.json())
            });
            ensure!(
                is_part,
                "{id} {}: the stored content is not the written content",
                log.session()
            );
        }
        Ok(())
    }

    /// All CoValues.
    pub(crate) fn ids(&self) -> BTreeSet<CoValueId> {
        self.lock().keys().copied().collect()
    }

    /// The CoValues with writes since the last call.
    pub(crate) fn take_touched(&self) -> BTreeSet<CoValueId> {
        let mut values = self.lock();
        let touched = values.iter_mut().filter(|(_, truth)| truth.touched);
        touched
            .map(|(id, truth)| {
                truth.touched = false;
                *id
            })
            .collect()
    }

    /// A CoValue and all its dependencies.
    pub(crate) fn needed_for(&self, id: CoValueId) -> BTreeSet<CoValueId> {
        let values = self.lock();
        let mut needed = BTreeSet::new();
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            if let Some(truth) = values.get(&id).filter(|_| needed.insert(id)) {
                waiting.extend(dependencies::of_header(truth.value.header()));
                let sessions = truth.value.sessions().map(downbeat_core::SessionLog::session);
                waiting.extend(dependencies::of_sessions(sessions));
            }
        }
        needed
    }

    pub(crate) fn is_group(&self, id: CoValueId) -> bool {
        self.lock().get(&id).is_some_and(|truth| truth.value.header().is_group())
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let values = self.lock();
        let count = |state: &KnownState| state.sessions.iter().map(|(_, count)| count).sum::<u64>();
        values.values().fold(Sizes::default(), |sizes, truth| Sizes {
            co_values: sizes.co_values + 1,
            deleted: sizes.deleted + usize::from(truth.deleted.is_some()),
            written: sizes.written + count(&truth.value.known_state()),
            acknowledged: sizes.acknowledged + count(&truth.acknowledged),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CoValueId, True>> {
        lock(&self.values)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl True {
    fn newest(&self) -> &CoValue {
        self.deleted.as_ref().unwrap_or(&self.value)
    }

    fn written(&self, session: &SessionId) -> u64 {
        let both = [Some(&self.value), self.deleted.as_ref()];
        let logs = both.into_iter().flatten().filter_map(|value| value.session(session));
        logs.map(downbeat_core::SessionLog::len).max().unwrap_or(0)
    }

    /// Describes acknowledged content that is missing in a copy.
    fn lost(&self, copy: Option<&CoValue>) -> Option<String> {
        let Some(copy) = copy else {
            return self.acknowledged.header.then(|| "the whole CoValue is missing".to_owned());
        };
        let state = copy.known_state().sessions;
        let mut expected = self.acknowledged.sessions.iter();
        // A deletion removes everything else.
        let lost = expected.find(|(session, count)| {
            state.get(session) < **count && (session.is_delete() || !copy.is_deleted())
        });
        lost.map(|(session, count)| {
            format!("{session} has {} of {count} acknowledged transactions", state.get(session))
        })
    }
}

impl Directory for Truth {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        self.lock().get(&account)?.value.header().account_agent().cloned()
    }

    /// The server decides this. The result is compared with the written content.
    fn may_delete(&self, _: &Claim) -> Result<(), DeleteError> {
        Ok(())
    }
}

//! Reading a whole store, and comparing it with what it was.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result};
use downbeat_protocol::{CoValueId, SessionCounts};
use downbeat_storage::{Storage, StorageError};
use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// CoValues of one page.
const PAGE: usize = 1_000;

/// A digest of all that a store holds of each CoValue.
pub(crate) type Truth = BTreeMap<String, u64>;

/// What is left of a store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remains {
    /// Whether it can be opened.
    pub opens: bool,
    /// CoValues that are not read as they were, where reading says so.
    pub reported: usize,
    /// CoValues that are missing or different without a word.
    pub silent: Vec<String>,
}

/// Reads a store, and prints its [`Remains`] as JSON.
pub(crate) async fn run(kind: Kind, dir: &Path, truth: &Path) -> Result<()> {
    let truth: Truth = serde_json::from_slice(&fs::read(truth).context("the truth")?)?;
    let remains = match kind.open_checked(dir).await {
        Err(_) => Remains { opens: false, reported: truth.len(), silent: Vec::new() },
        Ok(store) => examine(&*store, &truth).await,
    };
    println!("{}", serde_json::to_string(&remains)?);
    Ok(())
}

async fn examine(store: &dyn Storage, truth: &Truth) -> Remains {
    let mut remains = Remains { opens: true, reported: 0, silent: Vec::new() };
    let found = ids(store).await.unwrap_or_default();
    let unknown = found.iter().map(CoValueId::to_string).filter(|id| !truth.contains_key(id));
    remains.silent.extend(unknown);
    for (id, expected) in truth {
        let Ok(id) = CoValueId::parse(id) else { continue };
        match digest(store, id).await {
            Ok(found) if found == *expected => {}
            Ok(_) => remains.silent.push(id.to_string()),
            Err(_) => remains.reported += 1,
        }
    }
    remains
}

/// The truth of an undamaged store.
pub(crate) async fn truth_of(store: &dyn Storage) -> Result<Truth> {
    let mut truth = Truth::new();
    for id in ids(store).await? {
        truth.insert(id.to_string(), digest(store, id).await?);
    }
    Ok(truth)
}

async fn ids(store: &dyn Storage) -> Result<Vec<CoValueId>, StorageError> {
    let mut ids: Vec<CoValueId> = Vec::new();
    loop {
        let page = store.list(ids.last().copied(), PAGE).await?;
        let is_last = page.len() < PAGE;
        ids.extend(page);
        if is_last {
            return Ok(ids);
        }
    }
}

/// A digest of the header and all transactions of a CoValue.
async fn digest(store: &dyn Storage, id: CoValueId) -> Result<u64, StorageError> {
    let mut hasher = DefaultHasher::new();
    let Some(stored) = store.load(id).await? else { return Ok(hasher.finish()) };
    stored.header.json().hash(&mut hasher);
    stored.counts().iter().for_each(|(session, count)| (session.as_str(), count).hash(&mut hasher));
    let mut have = SessionCounts::new();
    loop {
        let runs = store.read(id, &have, 1 << 20).await?;
        if runs.is_empty() {
            return Ok(hasher.finish());
        }
        for run in runs {
            (run.session.as_str(), run.last_signature.as_str()).hash(&mut hasher);
            run.transactions.iter().for_each(|one| one.json().hash(&mut hasher));
            have.set(&run.session, run.end());
        }
    }
}

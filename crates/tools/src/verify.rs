//! Verification of a whole store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use downbeat_protocol::{CoValueId, SessionCounts};
use downbeat_storage::StorageError;
use serde::Serialize;

use crate::check::{Checked, Extension, Reason, check};
use crate::directory::Directory;
use crate::error::Error;
use crate::findings::{Finding, Findings, FindingsReport};
use crate::progress::{ProgressObserver, Unit};
use crate::store::Store;
use crate::walk::walk;

/// The result of a verification.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerifyReport {
    /// CoValues in the store.
    pub co_values: u64,
    /// Valid transactions.
    pub transactions: u64,
    /// Bytes of JSON in the valid transactions.
    pub bytes: u64,
    /// How long the verification took.
    pub seconds: f64,
    /// The content that is broken.
    #[serde(flatten)]
    pub report: FindingsReport,
}

/// Checks all ids, hash chains, signatures and deletions in a store.
pub fn verify(store: &Store, progress: &dyn ProgressObserver) -> Result<VerifyReport, Error> {
    let started = Instant::now();
    let verify = Verify {
        store,
        directory: Directory::new(vec![store.clone()]),
        findings: Findings::default(),
        progress,
        transactions: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let counted = verify.count()?;
    progress.start(Unit::CoValues, counted);
    let co_values = verify.run(counted)?;
    Ok(VerifyReport {
        co_values,
        transactions: verify.transactions.load(Ordering::Relaxed),
        bytes: verify.bytes.load(Ordering::Relaxed),
        seconds: started.elapsed().as_secs_f64(),
        report: verify.findings.report(),
    })
}

struct Verify<'a> {
    store: &'a Store,
    directory: Directory,
    findings: Findings,
    progress: &'a dyn ProgressObserver,
    /// Valid transactions, and the bytes of their JSON.
    transactions: AtomicU64,
    bytes: AtomicU64,
}

impl Verify<'_> {
    /// The number of CoValues according to the store. `None` if its totals are damaged.
    fn count(&self) -> Result<Option<u64>, StorageError> {
        match self.store.count() {
            Ok(count) => Ok(Some(count)),
            Err(StorageError::Corrupt(damage)) => {
                self.add_overall(Reason::Damaged(damage));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds a problem that belongs to no CoValue.
    fn add_overall(&self, reason: Reason) {
        self.findings.push(Finding { line: None, co_value: None, session: None, reason });
    }

    /// Checks everything, and returns the number of CoValues.
    fn run(&self, counted: Option<u64>) -> Result<u64, Error> {
        let walked = walk(self.store, |id| {
            self.verify(id).map_err(|error| error.in_co_value(id))?;
            self.progress.add(1);
            Ok(())
        })?;
        let listed = walked.listed;
        if let Some(damage) = walked.broken_off {
            self.add_overall(Reason::Damaged(damage));
        } else if let Some(counted) = counted
            && let Some(now) = self.count()?
            // A server may write to a SQLite file at the same time and add CoValues.
            && !(counted..=now.max(counted)).contains(&listed)
        {
            self.add_overall(Reason::WrongCount { listed, counted });
        }
        Ok(listed)
    }

    fn verify(&self, id: CoValueId) -> Result<(), Error> {
        let stored = match self.store.load(id) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(StorageError::Corrupt(damage)) => {
                self.findings.add(id, None, Reason::Damaged(damage));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut checked = match Checked::new(id, stored.header) {
            Ok(checked) => checked,
            Err(reason) => {
                self.findings.add(id, None, reason);
                return Ok(());
            }
        };
        let count = |_: &Checked, extensions: Vec<Extension>| {
            for Extension { content, .. } in extensions {
                let transactions = content.transactions.len() as u64;
                self.transactions.fetch_add(transactions, Ordering::Relaxed);
                self.bytes.fetch_add(content.json_len(), Ordering::Relaxed);
            }
            Ok::<_, StorageError>(())
        };
        check(
            self.store,
            SessionCounts::new(),
            &mut checked,
            &self.directory,
            count,
            |session, reason| self.findings.add(id, session, reason),
        )?;
        if stored.deleted && !checked.is_deleted() {
            self.findings.add(id, None, Reason::NotDeleted);
        }
        Ok(())
    }
}

//! Hashing logs in portions.

use std::iter;

use downbeat_crypto::HashChain;
use downbeat_protocol::Transaction;

use super::{Failure, VerifyLimits};
use crate::content::ContentStore;
use crate::verify::log::StoredLog;

/// What is left of a step.
#[derive(Debug)]
pub(super) struct Room {
    checks: usize,
    bytes: usize,
}

impl Room {
    /// A step does something, whatever its limits.
    pub(super) fn new(limits: VerifyLimits) -> Self {
        Self { checks: limits.checks.max(1), bytes: limits.bytes.max(1) }
    }

    pub(super) fn is_left(&self) -> bool {
        self.checks > 0 && self.bytes > 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take_check(&mut self) {
        self.checks = self.checks.saturating_sub(1);
    }

    pub(super) fn take_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The hash chain of the beginning of a stored log.
#[derive(Debug, Default)]
pub(super) struct LogHash {
    pub(super) chain: HashChain,
    /// The number of transactions in the chain.
    at: u64,
}

impl LogHash {
    /// Reads and hashes the next piece of the log. Returns whether the chain has `count`
    /// transactions.
    pub(super) async fn advance(
        &mut self,
        log: &mut StoredLog,
        content: &ContentStore,
        count: u64,
        room: &mut Room,
    ) -> Result<bool, Failure> {
        if self.at < count {
            let before = self.at;
            for run in log.read(content, self.at, count, room).await? {
                if run.after == self.at {
                    let wanted = usize::try_from(count - self.at).unwrap_or(usize::MAX);
                    let transactions = run.transactions.iter().take(wanted);
                    self.chain.append_all(transactions.map(|transaction| &transaction.json()[..]));
                    self.at = run.end().min(count);
                }
            }
            if self.at == before {
                return Err(Failure::LogTooShort { count: before, expected: count });
            }
        }
        Ok(self.at >= count)
    }
}

/// A hash chain that transactions are added to.
#[derive(Debug)]
pub(super) struct Extension {
    pub(super) chain: HashChain,
    /// The next transaction, and the bytes of it that are in the chain already.
    next: usize,
    skip: usize,
}

impl Extension {
    pub(super) fn of(chain: HashChain) -> Self {
        Self { chain, next: 0, skip: 0 }
    }

    /// Adds as much of the transactions as there is room for. Returns whether all of them are in
    /// the chain.
    pub(super) fn advance(&mut self, transactions: &[Transaction], room: &mut Room) -> bool {
        let Self { chain, next, skip } = self;
        let pieces = iter::from_fn(|| {
            let rest = transactions.get(*next)?.json().get(*skip..).unwrap_or_default();
            let bytes = rest.len().min(room.bytes());
            room.take_bytes(bytes);
            let (piece, rest) = rest.split_at(bytes);
            if rest.is_empty() {
                *next += 1;
                *skip = 0;
            } else {
                *skip += bytes;
            }
            // Without room nothing is left to take: the end.
            (!piece.is_empty()).then_some(piece)
        });
        chain.append_all(pieces);
        *next >= transactions.len()
    }
}

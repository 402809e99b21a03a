//! The stored log of a session, as a verification reads it.

use downbeat_protocol::{CoValueId, SessionContent, SessionCounts, SessionId};

use super::Failure;
use super::hashing::Room;
use crate::chunker::ReadRequest;
use crate::content::ContentStore;

/// The stored log of a session.
#[derive(Debug)]
pub(super) struct StoredLog {
    id: CoValueId,
    session: SessionId,
    /// The counts of the other sessions, so that storage skips them. Read once.
    others: Option<SessionCounts>,
    bytes_read: u64,
}

impl StoredLog {
    pub(super) fn new(id: CoValueId, session: SessionId) -> Self {
        Self { id, session, others: None, bytes_read: 0 }
    }

    /// Bytes of transactions that were read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Counts other transactions that were read for the same job.
    pub(super) fn count_read(&mut self, bytes: u64) {
        self.bytes_read += bytes;
    }

    /// Reads runs of the log between two positions: as many bytes as there is room for, and at
    /// least one run. Returns no run if there is none.
    pub(super) async fn read(
        &mut self,
        content: &ContentStore,
        from: u64,
        until: u64,
        room: &mut Room,
    ) -> Result<Vec<SessionContent>, Failure> {
        let id = self.id;
        let failed = |error| Failure::Storage { id, error };
        let mut have = if let Some(others) = self.others.take() {
            others
        } else {
            let stored = content.storage().load(id).await.map_err(failed)?;
            stored.map(|stored| stored.counts()).unwrap_or_default()
        };
        have.set(&self.session, from);
        let until = SessionCounts::from_iter([(self.session.clone(), until)]);
        let max_bytes = room.bytes();
        let runs = loop {
            let request = ReadRequest { id, have: &have, until: &until, max_bytes };
            let mut runs = content.read(&request).await.map_err(failed)?;
            let is_end = runs.is_empty();
            for other in runs.iter().filter(|run| run.session != self.session) {
                // Stored since the counts were read.
                have.raise(&other.session, other.end());
            }
            runs.retain(|run| run.session == self.session);
            if is_end || !runs.is_empty() {
                break runs;
            }
        };
        self.others = Some(have);
        let bytes: u64 = runs.iter().map(SessionContent::json_len).sum();
        self.bytes_read += bytes;
        room.take_bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(runs)
    }

    /// Compares the next piece of a repeated run with the log, from `at` up to `end`. Moves `at`
    /// behind it, or returns the position of the first transaction that differs.
    pub(super) async fn compare(
        &mut self,
        content: &ContentStore,
        run: &SessionContent,
        at: &mut u64,
        end: u64,
        room: &mut Room,
    ) -> Result<Option<u64>, Failure> {
        if *at >= end {
            return Ok(None);
        }
        let before = *at;
        for ours in self.read(content, *at, end, room).await? {
            let skip = usize::try_from(*at - run.after).unwrap_or(usize::MAX);
            let theirs = run.transactions.iter().skip(skip);
            if ours.after != *at {
                break;
            }
            for (ours, theirs) in ours.transactions.iter().zip(theirs) {
                if ours != theirs {
                    return Ok(Some(*at));
                }
                *at += 1;
            }
        }
        if *at == before {
            return Err(Failure::LogTooShort { count: before, expected: end });
        }
        Ok(None)
    }
}

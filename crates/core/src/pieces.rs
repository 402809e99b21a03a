//! Cutting the content that a peer lacks into messages.

use downbeat_protocol::{CHUNK_LEN, SessionContent, SessionCounts, Signature, Transaction};

use crate::session_log::SessionLog;

/// The content that `known` lacks of the logs: the runs of one message after the other. Returns at
/// least one message, which is empty if nothing is missing.
///
/// A run up to a checkpoint is a message of its own. The rests behind the last checkpoints, which
/// are never longer than [`CHUNK_LEN`], share messages. A message includes the rest that takes it
/// over [`CHUNK_LEN`] in UTF-16 code units.
///
/// Rule: `newContentSince` in `verifiedState.ts` of the reference, which visits the logs in the
/// order in which it learned of them.
pub(crate) fn cut<'a>(
    logs: impl IntoIterator<Item = &'a SessionLog>,
    known: Option<&SessionCounts>,
) -> Vec<Vec<SessionContent>> {
    let mut pieces = Vec::new();
    let mut open = Vec::new();
    let mut open_units = 0;
    for log in logs {
        let mut cursor = Cursor::new(log, known);
        for checkpoint in log.checkpoints() {
            pieces.extend(
                cursor.run_until(checkpoint.end, checkpoint.signature).map(|run| vec![run]),
            );
        }
        let Some(signature) = log.last_signature() else { continue };
        let Some(rest) = cursor.run_until(log.len(), signature) else { continue };
        let units = rest.transactions.iter().map(units).sum::<u64>();
        open.push(rest);
        open_units += units;
        if open_units > CHUNK_LEN {
            pieces.push(std::mem::take(&mut open));
            open_units = 0;
        }
    }
    if pieces.is_empty() || !open.is_empty() {
        pieces.push(open);
    }
    pieces
}

/// Walks over the missing part of a log.
struct Cursor<'a> {
    log: &'a SessionLog,
    position: u64,
}

impl<'a> Cursor<'a> {
    fn new(log: &'a SessionLog, known: Option<&SessionCounts>) -> Self {
        Self { log, position: known.map_or(0, |known| known.get(log.session())) }
    }

    /// The run from the current position to `end`, or `None` if it is empty.
    fn run_until(&mut self, end: u64, last_signature: Signature) -> Option<SessionContent> {
        let after = self.position;
        let range = usize::try_from(after).ok()?..usize::try_from(end).ok()?;
        let transactions = self.log.transactions().get(range).filter(|run| !run.is_empty())?;
        self.position = end;
        Some(SessionContent {
            session: self.log.session().clone(),
            after,
            transactions: transactions.to_vec(),
            last_signature,
        })
    }
}

fn units(transaction: &Transaction) -> u64 {
    u64::from(transaction.changes_utf16_len())
}

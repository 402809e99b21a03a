//! Cutting what someone lacks into messages.

use downbeat_protocol::{CHUNK_LEN, SessionContent, SessionCounts, Signature, Transaction};

use crate::session_log::SessionLog;

/// What `known` lacks of the logs, as runs to be sent in one message each. At least one, which
/// is empty if nothing is missing.
///
/// A run up to a checkpoint makes a piece by itself. What follows the last checkpoint of a log,
/// which alone can be no more than a piece holds, is put together with that of other logs. The one
/// that fills a piece is still part of it.
///
/// Rule: `newContentSince` in `verifiedState.ts` of the reference, which looks at the logs in
/// the order in which it got to know them.
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

/// Walks over what is missing of a log.
struct Cursor<'a> {
    log: &'a SessionLog,
    position: u64,
}

impl<'a> Cursor<'a> {
    fn new(log: &'a SessionLog, known: Option<&SessionCounts>) -> Self {
        Self { log, position: known.map_or(0, |known| known.get(log.session())) }
    }

    /// The run from here to `end`, unless there is nothing between.
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

//! Erases the content that a tombstone hides, a bounded amount at a time.

use downbeat_protocol::CoValueId;
use downbeat_storage::{Damage, Erased, StorageError};

use crate::draft::Remembered;
use crate::keys;
use crate::read::{decode_head, decode_session};
use crate::record::{self, TotalsRecord};
use crate::tree::{Changes, Tree};

/// Records that one call removes at most. Takes a few milliseconds of the writer's time.
const MAX_RECORDS: usize = 512;

/// See [`Storage::erase`](downbeat_storage::Storage::erase). The transactions of a session count as
/// erased with the last of its records.
///
/// The inner error is damage that prevents erasing; the tree is unchanged. After the outer error
/// the tree must be opened again.
pub(crate) fn erase(
    tree: &Tree,
    remembered: &mut Remembered,
    id: CoValueId,
) -> Result<Result<Erased, Damage>, StorageError> {
    let Step { mut batch, mut totals, erased } = match plan(tree, remembered.totals, id) {
        Ok(Some(step)) => step,
        Ok(None) => return Ok(Ok(Erased::default())),
        Err(StorageError::Corrupt(damage)) => return Ok(Err(damage.while_reading(id))),
        Err(error) => return Err(error),
    };
    totals.batches += 1;
    batch.insert(keys::TOTALS, record::encode(keys::TOTALS, &totals, 0));
    tree.apply(batch)?;
    remembered.totals = totals;
    Ok(Ok(erased))
}

/// The changes of one call.
struct Step {
    batch: Changes,
    totals: TotalsRecord,
    erased: Erased,
}

/// Finds the records to remove next; `None` if there are none.
fn plan(
    tree: &Tree,
    mut totals: TotalsRecord,
    id: CoValueId,
) -> Result<Option<Step>, StorageError> {
    let erasable = keys::erasable(id);
    if tree.get(&erasable)?.is_none() {
        return Ok(None);
    }
    let mut erased = Erased { more: true, ..Erased::default() };
    let mut batch = Changes::default();
    let mut left = MAX_RECORDS;
    let mut heads = tree.prefix(&keys::co_value(id)).skip(1);
    loop {
        let Some(entry) = heads.next() else {
            batch.remove(erasable);
            erased.more = false;
            break;
        };
        let (key, value) = entry?;
        let session = decode_session(id, &key)?;
        if session.is_delete() {
            continue;
        }
        let (head, _) = decode_head(id, &session, &key, &value)?;
        for record in tree.prefix(&keys::log(id, &session)).take(left) {
            batch.remove(record?.0);
            left -= 1;
        }
        if left == 0 {
            break;
        }
        batch.remove(&key);
        left -= 1;
        erased.transactions += head.count;
        erased.bytes += head.bytes;
        totals.sessions = totals.sessions.saturating_sub(1);
    }
    totals.transactions = totals.transactions.saturating_sub(erased.transactions);
    totals.transaction_bytes = totals.transaction_bytes.saturating_sub(erased.bytes);
    Ok(Some(Step { batch, totals, erased }))
}

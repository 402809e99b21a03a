//! Erasing what a tombstone hides, a bounded part at a time.

use downbeat_protocol::CoValueId;
use downbeat_storage::{Damage, Erased, StorageError};

use crate::draft::Remembered;
use crate::keys;
use crate::read::{decode_head, decode_session};
use crate::record::{self, TotalsRecord};
use crate::tree::{Changes, Tree};

/// The most records that one call removes: a few milliseconds of the writer's time.
const MAX_RECORDS: usize = 512;

/// See [`Storage::erase`](downbeat_storage::Storage::erase). A session's transactions are counted
/// as erased with the last of its records.
///
/// The inner error is damage that stands in the way of erasing; the tree is as it was. After the
/// outer one the tree is of no use.
pub(crate) fn erase(
    tree: &Tree,
    remembered: &mut Remembered,
    id: CoValueId,
) -> Result<Result<Erased, Damage>, StorageError> {
    let Step { mut batch, mut totals, erased } = match plan(tree, remembered.totals, id) {
        Ok(Some(step)) => step,
        Ok(None) => return Ok(Ok(Erased::default())),
        Err(StorageError::Corrupt(damage)) => return Ok(Err(damage.on_the_way_to(id))),
        Err(error) => return Err(error),
    };
    totals.batches += 1;
    batch.insert(keys::TOTALS, record::encode(keys::TOTALS, &totals, 0));
    tree.apply(batch)?;
    remembered.totals = totals;
    Ok(Ok(erased))
}

/// What one call does.
struct Step {
    batch: Changes,
    totals: TotalsRecord,
    erased: Erased,
}

/// Finds out what to remove next; `None` if there is nothing.
fn plan(
    tree: &Tree,
    mut totals: TotalsRecord,
    id: CoValueId,
) -> Result<Option<Step>, StorageError> {
    let mark = keys::erasable(id);
    if tree.get(&mark)?.is_none() {
        return Ok(None);
    }
    let mut erased = Erased { more: true, ..Erased::default() };
    let mut batch = Changes::default();
    let mut room = MAX_RECORDS;
    let mut heads = tree.prefix(&keys::co_value(id)).skip(1);
    loop {
        let Some(entry) = heads.next() else {
            batch.remove(mark);
            erased.more = false;
            break;
        };
        let (key, value) = entry?;
        let session = decode_session(id, &key)?;
        if session.is_delete() {
            continue;
        }
        let (head, _) = decode_head(id, &session, &key, &value)?;
        for part in tree.prefix(&keys::log(id, &session)).take(room) {
            batch.remove(part?.0);
            room -= 1;
        }
        if room == 0 {
            break;
        }
        batch.remove(&key);
        room -= 1;
        erased.transactions += head.count;
        erased.bytes += head.bytes;
        totals.sessions = totals.sessions.saturating_sub(1);
    }
    totals.transactions = totals.transactions.saturating_sub(erased.transactions);
    totals.transaction_bytes = totals.transaction_bytes.saturating_sub(erased.bytes);
    Ok(Some(Step { batch, totals, erased }))
}

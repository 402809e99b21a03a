//! Content for the stores, the same for all backends.

use std::iter;

use downbeat_protocol::{SessionContent, Transaction};
use downbeat_storage::conformance::{Author, CoValueFixture};
use downbeat_storage::{Outcome, Storage, Write};

/// The length of the changes of one edit.
const CHANGES: usize = 100;

/// Writes of one batch, as of a busy server.
const BATCH: usize = 32;

/// Edits of `co_values` CoValues in turn, one transaction each. The first edit of each creates it.
pub(crate) fn edits(co_values: u64, edits: u64) -> impl Iterator<Item = Write> {
    let mut author = Author::new(1);
    // One transaction for all, because storage neither checks signatures nor hashes.
    let transaction = author.write(1, CHANGES).transactions.remove(0);
    let fixtures: Vec<_> = (0..co_values).map(CoValueFixture::new).collect();
    (0..edits).map(move |number| {
        let at = usize::try_from(number % co_values).unwrap_or(0);
        let content = extension(&author, number / co_values, &transaction);
        fixtures[at].create(vec![content])
    })
}

/// The bytes of the transactions of so many edits.
pub(crate) fn edit_bytes(edits: u64) -> u64 {
    Author::new(1).write(1, CHANGES).json_len() * edits
}

/// Tombstones of so many CoValues.
pub(crate) fn tombstones(co_values: u64) -> impl Iterator<Item = Write> {
    (0..co_values).map(|number| {
        let co_value = CoValueFixture::new(number);
        co_value.tombstone(Author::deleting(1).delete(co_value.id))
    })
}

/// Writes in batches.
pub(crate) async fn append(store: &dyn Storage, mut writes: impl Iterator<Item = Write>) {
    loop {
        let batch: Vec<_> = iter::from_fn(|| writes.next()).take(BATCH).collect();
        if batch.is_empty() {
            return;
        }
        let outcomes = store.append(batch).await.expect("an undamaged store takes writes");
        assert!(outcomes.iter().all(Outcome::is_complete), "{outcomes:?}");
    }
}

fn extension(author: &Author, after: u64, transaction: &Transaction) -> SessionContent {
    SessionContent {
        session: author.session.clone(),
        after,
        transactions: vec![transaction.clone()],
        last_signature: author.signature(),
    }
}

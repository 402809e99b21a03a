//! Tombstones and erasure.

use super::Store;
use super::content::{
    Author, CoValueFixture, append, append_all, append_one, assert_holds, load, read_all,
};
use crate::types::{Erased, Outcome, SessionOutcome, StoreStats};

fn one(outcome: SessionOutcome) -> Outcome {
    Outcome::Applied(vec![outcome])
}

/// A CoValue with two sessions, deleted by a third.
async fn deleted(store: &Store) -> (CoValueFixture, [Author; 2], Author) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut b, mut deleter) = (Author::new(1), Author::new(2), Author::deleting(3));
    append(store, co_value.create(vec![a.write(3, 20), b.write(2, 20)])).await;
    append(store, co_value.tombstone(deleter.delete(co_value.id))).await;
    (co_value, [a, b], deleter)
}

pub(super) async fn a_tombstone_hides_all_but_delete_sessions(store: &Store) {
    let (co_value, _, deleter) = deleted(store).await;
    let stored = load(store, co_value.id).await;
    assert!(stored.deleted);
    assert_eq!(stored.header, co_value.header);
    assert_holds(store, co_value.id, &[&deleter]).await;
    assert_eq!(store.list(None, 10).await.unwrap(), [co_value.id]);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.co_values, stats.deleted), (1, 1));
}

pub(super) async fn a_deleted_covalue_takes_delete_sessions_only(store: &Store) {
    let (co_value, [mut a, _], deleter) = deleted(store).await;
    let mut other = Author::deleting(4);
    let batch = vec![a.write(1, 20), Author::new(5).write(1, 20), other.delete(co_value.id)];
    let outcome = append_one(store, co_value.create(batch)).await;
    let expected =
        [SessionOutcome::Deleted, SessionOutcome::Deleted, SessionOutcome::Applied].to_vec();
    assert_eq!(outcome, Outcome::Applied(expected));
    assert_holds(store, co_value.id, &[&deleter, &other]).await;

    let mut third = Author::deleting(6);
    append(store, co_value.tombstone(third.delete(co_value.id))).await;
    assert_holds(store, co_value.id, &[&deleter, &other, &third]).await;
    assert_eq!(store.stats().await.unwrap().deleted, 1, "a CoValue is deleted once");
}

pub(super) async fn a_tombstone_that_does_not_fit_deletes_nothing(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut deleter) = (Author::new(1), Author::deleting(2));
    append(store, co_value.create(vec![a.write(1, 20)])).await;
    let empty = deleter.write(0, 0);
    let outcome = append_one(store, co_value.tombstone(empty)).await;
    assert_eq!(outcome, one(SessionOutcome::Conflict { stored: 0 }));
    deleter.delete(co_value.id);
    let beyond = deleter.delete(co_value.id);
    let outcome = append_one(store, co_value.tombstone(beyond)).await;
    assert_eq!(outcome, one(SessionOutcome::Conflict { stored: 0 }));
    let no_delete_session = a.clone().write(1, 20);
    let outcome = append_one(store, co_value.tombstone(no_delete_session)).await;
    assert_eq!(outcome, one(SessionOutcome::Deleted));
    assert!(!load(store, co_value.id).await.deleted);
    assert_holds(store, co_value.id, &[&a]).await;
    assert_eq!(store.erasable(None, 10).await.unwrap(), []);
}

pub(super) async fn a_tombstone_may_follow_its_covalue_in_one_batch(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut deleter) = (Author::new(1), Author::deleting(2));
    let batch = vec![
        co_value.create(vec![a.write(1, 20)]),
        co_value.tombstone(deleter.delete(co_value.id)),
    ];
    append_all(store, batch).await;
    let outcome = append_one(store, co_value.extend(vec![a.write(1, 20)])).await;
    assert_eq!(outcome, one(SessionOutcome::Deleted));
    assert!(load(store, co_value.id).await.deleted);
    assert_holds(store, co_value.id, &[&deleter]).await;
}

pub(super) async fn a_tombstone_for_a_stored_delete_session_marks_it(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut deleter) = (Author::new(1), Author::deleting(2));
    let tombstone = deleter.delete(co_value.id);
    append(store, co_value.create(vec![a.write(1, 20), tombstone.clone()])).await;
    assert!(!load(store, co_value.id).await.deleted);
    append(store, co_value.tombstone(tombstone.clone())).await;
    assert!(load(store, co_value.id).await.deleted);
    append(store, co_value.tombstone(tombstone)).await;
    assert_holds(store, co_value.id, &[&deleter]).await;
}

pub(super) async fn erasing_removes_everything_but_the_tombstone(store: &Store) {
    let (co_value, _, deleter) = deleted(store).await;
    let other = CoValueFixture::new(2);
    let mut author = Author::new(7);
    append(store, other.create(vec![author.write(2, 20)])).await;
    assert_eq!(store.erasable(None, 10).await.unwrap(), [co_value.id]);

    let erased = erase_all(store, &co_value).await;
    assert_eq!(erased.transactions, 5);
    assert_eq!(store.erasable(None, 10).await.unwrap(), []);
    assert_holds(store, co_value.id, &[&deleter]).await;
    assert!(load(store, co_value.id).await.deleted);
    assert_holds(store, other.id, &[&author]).await;
    let stats = store.stats().await.unwrap();
    let left = deleter.log.iter().chain(&author.log);
    let expected = StoreStats {
        co_values: 2,
        deleted: 1,
        sessions: 2,
        transactions: 3,
        transaction_bytes: left.map(|tx| tx.json().len() as u64).sum(),
        disk_bytes: stats.disk_bytes,
    };
    assert_eq!(stats, expected);

    let outcome = append_one(store, co_value.extend(vec![Author::new(1).write(1, 20)])).await;
    assert_eq!(outcome, one(SessionOutcome::Deleted), "erased content does not come back");
}

pub(super) async fn erasing_takes_bounded_steps(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut deleter = Author::deleting(2);
    let mut authors: Vec<_> = (0..3).map(Author::new).collect();
    let extensions = authors
        .iter_mut()
        .flat_map(|author| (0..2_000).map(|_| author.write(1, 20)).collect::<Vec<_>>())
        .collect();
    append(store, co_value.create(extensions)).await;
    append(store, co_value.tombstone(deleter.delete(co_value.id))).await;

    let first = store.erase(co_value.id).await.unwrap();
    assert!(first.more, "6,000 extensions are more than one call removes");
    assert_eq!(store.erasable(None, 10).await.unwrap(), [co_value.id]);
    assert_holds(store, co_value.id, &[&deleter]).await;
    let rest = erase_all(store, &co_value).await;
    assert_eq!(first.transactions + rest.transactions, 6_000);
    let log = authors.iter().flat_map(|author| &author.log);
    assert_eq!(first.bytes + rest.bytes, log.map(|tx| tx.json().len() as u64).sum::<u64>());
    assert_holds(store, co_value.id, &[&deleter]).await;
    assert_eq!(store.stats().await.unwrap().transactions, 1);
}

pub(super) async fn what_is_not_deleted_cannot_be_erased(store: &Store) {
    let (co_value, missing) = (CoValueFixture::new(1), CoValueFixture::new(2));
    let mut author = Author::new(1);
    append(store, co_value.create(vec![author.write(2, 20)])).await;
    assert_eq!(store.erase(co_value.id).await.unwrap(), Erased::default());
    assert_eq!(store.erase(missing.id).await.unwrap(), Erased::default());
    assert_holds(store, co_value.id, &[&author]).await;
    assert_eq!(read_all(store, missing.id).await, []);
}

/// Erases step by step, and adds up the results.
pub(super) async fn erase_all(store: &Store, co_value: &CoValueFixture) -> Erased {
    let mut sum = Erased { more: true, ..Erased::default() };
    while sum.more {
        let step = store.erase(co_value.id).await.unwrap();
        sum.transactions += step.transactions;
        sum.bytes += step.bytes;
        sum.more = step.more;
    }
    sum
}

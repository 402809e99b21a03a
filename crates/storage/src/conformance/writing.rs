//! Appending.

use downbeat_protocol::SessionCounts;

use super::Store;
use super::content::{
    Author, CoValueFixture, append, append_all, append_one, assert_holds, load, read_all,
};
use crate::types::{Outcome, SessionOutcome, StoreStats};

pub(super) async fn nothing_is_stored_at_first(store: &Store) {
    let id = CoValueFixture::new(1).id;
    assert_eq!(store.load(id).await.unwrap(), None);
    assert_eq!(store.read(id, &SessionCounts::new(), 100).await.unwrap(), []);
    assert_eq!(store.list(None, 10).await.unwrap(), []);
    assert_eq!(store.erasable(None, 10).await.unwrap(), []);
    assert_eq!(store.unsynced(None, 10).await.unwrap(), []);
    assert_eq!(store.count().await.unwrap(), 0);
    let stats = store.stats().await.unwrap();
    assert_eq!(StoreStats { disk_bytes: None, ..stats }, StoreStats::default());
    assert_eq!(store.append(Vec::new()).await.unwrap(), []);
}

pub(super) async fn a_header_alone_makes_a_covalue(store: &Store) {
    let co_value = CoValueFixture::new(1);
    append(store, co_value.create(Vec::new())).await;
    let stored = load(store, co_value.id).await;
    assert_eq!(stored.header, co_value.header);
    assert_eq!(stored.sessions, []);
    assert!(!stored.deleted);
    assert_eq!(read_all(store, co_value.id).await, []);
    assert_eq!(store.list(None, 10).await.unwrap(), [co_value.id]);
    assert_eq!(store.count().await.unwrap(), 1);
}

pub(super) async fn content_without_a_header_is_reported_and_not_stored(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    let content = author.write(1, 20);
    let outcome = append_one(store, co_value.extend(vec![content.clone()])).await;
    assert_eq!(outcome, Outcome::NoHeader);
    assert_eq!(append_one(store, co_value.extend(Vec::new())).await, Outcome::NoHeader);
    let tombstone = co_value.tombstone(Author::deleting(2).delete(co_value.id));
    assert_eq!(append_one(store, tombstone).await, Outcome::NoHeader);
    assert_eq!(store.load(co_value.id).await.unwrap(), None);
    assert_eq!(store.count().await.unwrap(), 0);

    append(store, co_value.create(vec![content])).await;
    assert_holds(store, co_value.id, &[&author]).await;
}

pub(super) async fn what_was_appended_is_read_back_and_verifies(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    append(store, co_value.create(vec![a.write(3, 20), b.write(1, 200)])).await;
    assert_holds(store, co_value.id, &[&a, &b]).await;
    append(store, co_value.extend(vec![b.write(2, 30)])).await;
    // The header again does no harm.
    append(store, co_value.create(vec![a.write(1, 30)])).await;
    assert_holds(store, co_value.id, &[&a, &b]).await;
    assert_eq!(load(store, co_value.id).await.header, co_value.header);
}

pub(super) async fn an_extension_off_its_expectation_is_reported_by_itself(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut b, mut c) = (Author::new(1), Author::new(2), Author::new(3));
    append(store, co_value.create(vec![a.write(2, 20), b.write(2, 20)])).await;
    let again = a.clone().write(1, 20);
    let (skipped, mut behind) = (b.clone().write(1, 20), b.clone());
    behind.write_these(skipped.transactions);
    let beyond = behind.write(1, 20);
    let mut before = again.clone();
    before.after = 1;
    let fits = c.write(1, 20);
    let outcome = append_one(store, co_value.extend(vec![before, beyond, fits])).await;
    let expected = [
        SessionOutcome::Conflict { stored: 2 },
        SessionOutcome::Conflict { stored: 2 },
        SessionOutcome::Applied,
    ];
    assert_eq!(outcome, Outcome::Applied(expected.to_vec()));
    assert_holds(store, co_value.id, &[&a, &b, &c]).await;

    let new = Author::new(4);
    let mut author = new.clone();
    author.write(1, 20);
    let outcome = append_one(store, co_value.extend(vec![author.write(1, 20)])).await;
    assert_eq!(outcome, Outcome::Applied(vec![SessionOutcome::Conflict { stored: 0 }]));
    assert_holds(store, co_value.id, &[&a, &b, &c]).await;
}

pub(super) async fn the_writes_of_a_batch_build_on_each_other(store: &Store) {
    let (first, second) = (CoValueFixture::new(1), CoValueFixture::new(2));
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    let batch = vec![
        first.create(vec![a.write(2, 20)]),
        second.extend(vec![b.clone().write(1, 20)]),
        second.create(vec![b.write(1, 20)]),
        first.extend(vec![a.write(1, 20)]),
        first.extend(vec![a.write(1, 20), a.write(2, 20)]),
        second.create(vec![b.write(1, 20)]),
    ];
    let applied = |count| Outcome::Applied(vec![SessionOutcome::Applied; count]);
    let expected = [applied(1), Outcome::NoHeader, applied(1), applied(1), applied(2), applied(1)];
    assert_eq!(store.append(batch).await.unwrap(), expected);
    assert_holds(store, first.id, &[&a]).await;
    assert_holds(store, second.id, &[&b]).await;
}

pub(super) async fn an_extension_without_transactions_changes_nothing(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    append(store, co_value.create(vec![a.write(0, 0)])).await;
    assert_holds(store, co_value.id, &[]).await;
    append(store, co_value.extend(vec![b.write(1, 20)])).await;
    append(store, co_value.extend(vec![b.write(0, 0), a.write(0, 0)])).await;
    let mut off = b.clone().write(0, 0);
    off.after = 2;
    let outcome = append_one(store, co_value.extend(vec![off])).await;
    assert_eq!(outcome, Outcome::Applied(vec![SessionOutcome::Conflict { stored: 1 }]));
    assert_holds(store, co_value.id, &[&b]).await;
}

pub(super) async fn a_covalue_is_created_even_if_its_sessions_conflict(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    author.write(1, 20);
    let outcome = append_one(store, co_value.create(vec![author.write(1, 20)])).await;
    assert_eq!(outcome, Outcome::Applied(vec![SessionOutcome::Conflict { stored: 0 }]));
    assert_holds(store, co_value.id, &[]).await;
}

pub(super) async fn the_figures_follow_the_writes(store: &Store) {
    let (first, second) = (CoValueFixture::new(1), CoValueFixture::new(2));
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    append_all(store, vec![first.create(vec![a.write(2, 20)]), second.create(vec![])]).await;
    append(store, first.create(vec![a.write(1, 50), b.write(1, 20)])).await;
    append_one(store, first.extend(vec![Author::new(3).write(0, 0)])).await;
    let logs = a.log.iter().chain(&b.log);
    let stats = store.stats().await.unwrap();
    let expected = StoreStats {
        co_values: 2,
        deleted: 0,
        sessions: 2,
        transactions: 4,
        transaction_bytes: logs.map(|tx| tx.json().len() as u64).sum(),
        disk_bytes: stats.disk_bytes,
    };
    assert_eq!(stats, expected);
    assert_eq!(store.count().await.unwrap(), 2);
}

//! Data that outlives the closing of a store.

use std::slice;

use downbeat_protocol::SessionContent;

use super::Store;
use super::content::{Author, CoValueFixture, append, append_one, assert_holds, load, read_all};
use super::deleting::erase_all;
use super::random::History;
use crate::types::{Outcome, SessionOutcome, UnsyncedUpdate};

pub(super) async fn everything_is_there_after_closing(open: impl AsyncFn() -> Store) {
    let mut history = History::new(1);
    for _ in 0..4 {
        let store = open().await;
        for _ in 0..40 {
            history.step(&store).await;
        }
        store.close().await.unwrap();
    }
    history.assert_equal(&open().await).await;
}

pub(super) async fn everything_is_there_after_dropping(open: impl AsyncFn() -> Store) {
    let mut history = History::new(2);
    for _ in 0..4 {
        let store = open().await;
        for _ in 0..40 {
            history.step(&store).await;
        }
        drop(store);
    }
    history.assert_equal(&open().await).await;
}

pub(super) async fn a_log_goes_on_where_it_was(open: impl AsyncFn() -> Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    for round in 0..6 {
        let store = open().await;
        let behind = author.clone();
        let content = author.write(1, 40_000);
        append(&store, co_value.create(vec![content])).await;
        if round > 0 {
            let outcome =
                append_one(&store, co_value.extend(vec![behind.clone().write(1, 20)])).await;
            let stored = author.count();
            assert_eq!(outcome, Outcome::Applied(vec![SessionOutcome::Conflict { stored }]));
        }
        store.close().await.unwrap();
    }
    let store = open().await;
    assert_holds(&store, co_value.id, &[&author]).await;
    let ends: Vec<_> =
        read_all(&store, co_value.id).await.iter().map(SessionContent::end).collect();
    assert_eq!(ends, [3, 6], "bytes since a checkpoint are counted across openings");
}

pub(super) async fn erasure_goes_on_where_it_was(open: impl AsyncFn() -> Store) {
    let co_value = CoValueFixture::new(1);
    let (mut author, mut deleter) = (Author::new(1), Author::deleting(2));
    let store = open().await;
    let extensions = (0..3_000).map(|_| author.write(1, 20)).collect();
    append(&store, co_value.create(extensions)).await;
    let entry = super::paging::entry(1, "a");
    let update = UnsyncedUpdate { entry: entry.clone(), synced: false };
    store.track_unsynced(vec![update]).await.unwrap();
    append(&store, co_value.tombstone(deleter.delete(co_value.id))).await;
    assert!(store.erase(co_value.id).await.unwrap().more);
    store.close().await.unwrap();

    let store = open().await;
    assert_eq!(store.erasable(None, 10).await.unwrap(), [co_value.id]);
    assert_eq!(store.unsynced(None, 10).await.unwrap(), slice::from_ref(&entry));
    assert!(load(&store, co_value.id).await.deleted);
    let outcome = append_one(&store, co_value.extend(vec![author.write(1, 20)])).await;
    assert_eq!(outcome, Outcome::Applied(vec![SessionOutcome::Deleted]));
    erase_all(&store, &co_value).await;
    store.track_unsynced(vec![UnsyncedUpdate { entry, synced: true }]).await.unwrap();
    store.close().await.unwrap();

    let store = open().await;
    assert_eq!(store.erasable(None, 10).await.unwrap(), []);
    assert_eq!(store.unsynced(None, 10).await.unwrap(), []);
    assert_holds(&store, co_value.id, &[&deleter]).await;
    assert_eq!(store.stats().await.unwrap().transactions, 1);
}

pub(super) async fn a_store_can_be_opened_again_and_again(open: impl AsyncFn() -> Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(&open().await, co_value.create(vec![author.write(1, 20)])).await;
    for _ in 0..10 {
        let store = open().await;
        assert_eq!(store.count().await.unwrap(), 1);
        append(&store, co_value.extend(vec![author.write(1, 20)])).await;
    }
    assert_holds(&open().await, co_value.id, &[&author]).await;
}

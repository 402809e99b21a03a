//! Walks over ids in pages.

use std::collections::BTreeSet;
use std::slice;

use downbeat_protocol::{CoValueId, UpstreamName};

use super::Store;
use super::content::{CoValueFixture, append, append_all};
use crate::types::{Unsynced, UnsyncedUpdate};

pub(super) async fn covalues_are_listed_in_pages(store: &Store) {
    let created: BTreeSet<_> = create(store, 0..25).await;
    let all: Vec<_> = created.into_iter().collect();
    assert_eq!(store.list(None, 100).await.unwrap(), all);
    for page in [1, 2, 7, 25, 26] {
        assert_eq!(walk(store, page).await, all, "pages of {page}");
    }
    assert_eq!(store.list(None, 0).await.unwrap(), []);
    assert_eq!(store.list(Some(all[24]), 10).await.unwrap(), []);
    // A page may follow an id that is not stored.
    let missing = CoValueFixture::new(1_000).id;
    let rest: Vec<_> = all.iter().copied().filter(|&id| id > missing).collect();
    assert_eq!(store.list(Some(missing), 100).await.unwrap(), rest);
}

pub(super) async fn a_walk_while_others_write_finds_all_that_was_there(store: &Store) {
    let before = create(store, 0..50).await;
    let mut after = None;
    let mut found = Vec::new();
    let mut number = 50;
    loop {
        let page = store.list(after, 5).await.unwrap();
        found.extend(&page);
        if page.len() < 5 {
            break;
        }
        after = page.last().copied();
        create(store, number..number + 3).await;
        number += 3;
        assert!(number < 10_000, "the walk comes to an end");
    }
    assert!(found.is_sorted_by(|a, b| a < b), "no CoValue is listed twice");
    let found: BTreeSet<_> = found.into_iter().collect();
    assert!(before.is_subset(&found));
}

pub(super) async fn what_is_not_acknowledged_is_listed_in_pages(store: &Store) {
    let mut entries: Vec<_> = (0..10)
        .flat_map(|number| ["a", "b", "wss://a.example/?key=1"].map(|name| entry(number, name)))
        .collect();
    let updates =
        entries.iter().rev().cloned().map(|entry| UnsyncedUpdate { entry, synced: false });
    store.track_unsynced(updates.collect()).await.unwrap();
    entries.sort();
    assert_eq!(store.unsynced(None, 100).await.unwrap(), entries);
    assert_eq!(store.unsynced(None, 0).await.unwrap(), []);
    for page in [1, 4, 30] {
        let mut found: Vec<Unsynced> = Vec::new();
        loop {
            let next = store.unsynced(found.last().cloned(), page).await.unwrap();
            let done = next.len() < page;
            found.extend(next);
            if done {
                break;
            }
        }
        assert_eq!(found, entries, "pages of {page}");
    }
    assert_eq!(store.list(None, 10).await.unwrap(), [], "tracking stores no CoValue");
    assert_eq!(store.count().await.unwrap(), 0);
}

pub(super) async fn an_acknowledged_covalue_is_forgotten(store: &Store) {
    let (a, b) = (entry(1, "a"), entry(1, "b"));
    let update = |entry: &Unsynced, synced| UnsyncedUpdate { entry: entry.clone(), synced };
    store.track_unsynced(vec![update(&a, false), update(&b, false)]).await.unwrap();
    store.track_unsynced(vec![update(&a, true)]).await.unwrap();
    assert_eq!(store.unsynced(None, 10).await.unwrap(), slice::from_ref(&b));
    store.track_unsynced(vec![update(&a, true), update(&b, false)]).await.unwrap();
    assert_eq!(store.unsynced(None, 10).await.unwrap(), slice::from_ref(&b));
    // Updates of one call take effect in their order.
    let updates = vec![update(&b, true), update(&a, false), update(&a, true), update(&b, false)];
    store.track_unsynced(updates).await.unwrap();
    assert_eq!(store.unsynced(None, 10).await.unwrap(), slice::from_ref(&b));
    store.track_unsynced(vec![update(&b, true)]).await.unwrap();
    store.track_unsynced(Vec::new()).await.unwrap();
    assert_eq!(store.unsynced(None, 10).await.unwrap(), []);
}

pub(super) fn entry(number: u64, upstream: &str) -> Unsynced {
    let upstream = UpstreamName::new(upstream).expect("the test's names are names");
    Unsynced { id: CoValueFixture::new(number).id, upstream }
}

/// Creates the CoValues of these numbers.
async fn create(store: &Store, numbers: std::ops::Range<u64>) -> BTreeSet<CoValueId> {
    let co_values: Vec<_> = numbers.map(CoValueFixture::new).collect();
    let (last, first) = co_values.split_last().expect("some CoValues are created");
    append_all(store, first.iter().map(|co_value| co_value.create(Vec::new())).collect()).await;
    append(store, last.create(Vec::new())).await;
    co_values.iter().map(|co_value| co_value.id).collect()
}

/// All ids, read in pages of this length.
pub(super) async fn walk(store: &Store, page: usize) -> Vec<CoValueId> {
    let mut found = Vec::new();
    loop {
        let next = store.list(found.last().copied(), page).await.unwrap();
        let done = next.len() < page;
        found.extend(next);
        if done {
            return found;
        }
    }
}

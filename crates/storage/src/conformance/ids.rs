//! Ids that are unusual, or similar to each other.

use downbeat_protocol::{CoValueId, MAX_SESSION_ID_LEN, MAX_UPSTREAM_NAME_LEN, UpstreamName};

use super::Store;
use super::content::{Author, CoValueFixture, append, append_all, assert_holds};
use super::paging::walk;
use crate::types::{Unsynced, UnsyncedUpdate};

/// Ids in the right alphabet that are no hashes. Some are prefixes of others.
fn odd_ids() -> Vec<CoValueId> {
    let longest = format!("co_z{}", "z".repeat(26));
    let shortest = format!("co_z{}", "1".repeat(26));
    let ids =
        ["co_z1", "co_z11", "co_z12", "co_z2", "co_zZ", "co_za", "co_zz", &shortest, &longest];
    let mut ids: Vec<_> = ids.iter().map(|id| CoValueId::parse(id).unwrap()).collect();
    ids.sort();
    ids
}

pub(super) async fn ids_that_begin_like_others_are_kept_apart(store: &Store) {
    let header = CoValueFixture::new(1).header;
    let co_values: Vec<_> =
        odd_ids().into_iter().map(|id| CoValueFixture { id, header: header.clone() }).collect();
    let mut authors: Vec<_> = (0..).map(Author::new).take(co_values.len()).collect();
    for (co_value, author) in co_values.iter().zip(&mut authors).rev() {
        append(store, co_value.create(vec![author.write(2, 20)])).await;
    }
    for (co_value, author) in co_values.iter().zip(&mut authors) {
        append(store, co_value.extend(vec![author.write(1, 20)])).await;
        assert_holds(store, co_value.id, &[author]).await;
    }
    assert_eq!(walk(store, 2).await, odd_ids());

    let (gone, kept): (Vec<_>, Vec<_>) =
        co_values.iter().zip(&authors).enumerate().partition(|(index, _)| index % 2 == 0);
    for (index, (co_value, _)) in gone {
        let mut deleter = Author::deleting(100 + index as u64);
        append(store, co_value.tombstone(deleter.delete(co_value.id))).await;
        super::deleting::erase_all(store, co_value).await;
        assert_holds(store, co_value.id, &[&deleter]).await;
    }
    for (_, (co_value, author)) in kept {
        assert_holds(store, co_value.id, &[author]).await;
    }
    assert_eq!(walk(store, 3).await, odd_ids());
}

pub(super) async fn sessions_of_any_kind_of_owner_are_kept_apart(store: &Store) {
    let longest_random = MAX_SESSION_ID_LEN - "co_z1_session_z".len();
    let mut authors: Vec<_> = [
        "co_z1_session_z1".to_owned(),
        "co_z1_session_z11".to_owned(),
        "co_z1_session_z1z".to_owned(),
        "co_z11_session_z1".to_owned(),
        "co_z1_session_d1$".to_owned(),
        "co_z1_session_d11$".to_owned(),
        format!("co_z1_session_z{}", "z".repeat(longest_random)),
        format!("co_z{}_session_z1", "z".repeat(26)),
    ]
    .iter()
    .map(|session| Author::of(session))
    .chain([Author::new(1), Author::deleting(1)])
    .collect();
    let co_value = CoValueFixture::new(1);
    append(store, co_value.create(Vec::new())).await;
    for round in 0..3 {
        let extensions = authors.iter_mut().map(|author| author.write(1 + round, 20)).collect();
        append(store, co_value.extend(extensions)).await;
    }
    assert_holds(store, co_value.id, &authors.iter().collect::<Vec<_>>()).await;

    let mut deleter = Author::deleting(2);
    append(store, co_value.tombstone(deleter.delete(co_value.id))).await;
    super::deleting::erase_all(store, &co_value).await;
    let mut left: Vec<_> = authors.iter().filter(|author| author.session.is_delete()).collect();
    left.push(&deleter);
    assert_holds(store, co_value.id, &left).await;
}

pub(super) async fn names_of_upstreams_are_kept_apart(store: &Store) {
    let longest = "é".repeat(MAX_UPSTREAM_NAME_LEN / 2);
    let names = ["a", "aa", "a\u{1}", "a b", "ä", "\u{10ffff}", "co_z1", &longest];
    let mut entries: Vec<_> = odd_ids()
        .into_iter()
        .flat_map(|id| {
            names.map(|name| Unsynced { id, upstream: UpstreamName::new(name).unwrap() })
        })
        .collect();
    entries.sort();
    let updates = |entries: &[Unsynced], synced| {
        entries.iter().cloned().map(|entry| UnsyncedUpdate { entry, synced }).collect()
    };
    store.track_unsynced(updates(&entries, false)).await.unwrap();
    assert_eq!(store.unsynced(None, 1_000).await.unwrap(), entries);
    for (index, entry) in entries.iter().enumerate() {
        let next = store.unsynced(Some(entry.clone()), 1).await.unwrap();
        assert_eq!(next.first(), entries.get(index + 1));
    }
    let (first, second) = entries.split_at(entries.len() / 2);
    store.track_unsynced(updates(first, true)).await.unwrap();
    assert_eq!(store.unsynced(None, 1_000).await.unwrap(), second);

    // Tracked ids and stored ids are independent of each other.
    let header = CoValueFixture::new(1).header;
    let creates = odd_ids().into_iter().map(|id| CoValueFixture { id, header: header.clone() });
    append_all(store, creates.map(|co_value| co_value.create(Vec::new())).collect()).await;
    assert_eq!(store.unsynced(None, 1_000).await.unwrap(), second);
}

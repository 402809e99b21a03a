//! Many tasks at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use downbeat_protocol::SessionCounts;

use super::Store;
use super::content::{
    ALL, Author, CoValueFixture, append, append_one, assert_holds, load, read_from,
};
use crate::error::StorageError;
use crate::types::{Outcome, SessionOutcome};

pub(super) async fn of_writers_that_race_for_a_log_one_wins_each_round(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(store, co_value.create(Vec::new())).await;
    for round in 0..10 {
        let racers: Vec<_> = (0..8)
            .map(|len| {
                let mut author = author.clone();
                let content = author.write(1 + len % 3, 20 + len);
                let (store, write) = (Arc::clone(store), co_value.extend(vec![content]));
                tokio::spawn(async move { (append_one(&store, write).await, author) })
            })
            .collect();
        let mut winners = Vec::new();
        let mut conflicts = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (Outcome::Applied(outcomes), racer) => match outcomes[..] {
                    [SessionOutcome::Applied] => winners.push(racer),
                    [SessionOutcome::Conflict { stored }] => conflicts.push(stored),
                    ref other => panic!("round {round}: {other:?}"),
                },
                (other, _) => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "one writer wins");
        author = winners.remove(0);
        assert_eq!(conflicts, [author.count(); 7], "the others learn the stored count");
        assert_holds(store, co_value.id, &[&author]).await;
    }
}

pub(super) async fn appends_from_everywhere_all_take_effect(store: &Store) {
    let writers: Vec<_> = (0..32)
        .map(|number| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let co_value = CoValueFixture::new(number % 8);
                let mut author = Author::new(number);
                for _ in 0..20 {
                    append(&store, co_value.create(vec![author.write(1, 50)])).await;
                }
                author
            })
        })
        .collect();
    let mut authors = Vec::new();
    for writer in writers {
        authors.push(writer.await.unwrap());
    }
    for number in 0..8 {
        let here: Vec<_> = authors.iter().skip(number).step_by(8).collect();
        assert_holds(store, CoValueFixture::new(number as u64).id, &here).await;
    }
    assert_eq!(store.stats().await.unwrap().transactions, 640);
}

pub(super) async fn readers_see_whole_extensions_while_one_writes(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    let mut written = author.clone();
    let extensions: Vec<_> = (0..60).map(|index| written.write(1 + index % 7, 2_000)).collect();
    append(store, co_value.create(Vec::new())).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, done, written) = (Arc::clone(store), Arc::clone(&done), written.clone());
            tokio::spawn(async move {
                let mut have = SessionCounts::new();
                let mut before = 0;
                while have.get(&written.session) < written.count() {
                    let finished = done.load(Ordering::SeqCst);
                    let count = load(&store, co_value.id).await.counts().get(&written.session);
                    assert!(count >= before, "a known state only grows");
                    assert!(!finished || count == written.count(), "readers see finished appends");
                    before = count;
                    let runs = store.read(co_value.id, &have, 10_000).await.unwrap();
                    let position = written.check(have.get(&written.session), &runs);
                    assert!(
                        count <= position || !runs.is_empty(),
                        "content of the known state can be read"
                    );
                    have.set(&written.session, position);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for content in extensions {
        author.write_these(content.transactions.clone());
        append(store, co_value.extend(vec![content])).await;
        let count = load(store, co_value.id).await.counts().get(&author.session);
        assert_eq!(count, author.count(), "an append is seen once it has returned");
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

pub(super) async fn a_reader_is_not_disturbed_by_deletion(store: &Store) {
    /// Enough that a deletion falls into the middle of a read.
    const SESSIONS: usize = 300;
    let mut authors: Vec<_> = (0..).map(Author::new).take(SESSIONS).collect();
    let sessions: Vec<_> = authors.iter_mut().map(|author| author.write(1, 20)).collect();
    for number in 0..10 {
        let co_value = CoValueFixture::new(number);
        append(store, co_value.create(sessions.clone())).await;
        let readers: Vec<_> = [false, true]
            .map(|runs| {
                let store = Arc::clone(store);
                tokio::spawn(async move {
                    loop {
                        let stored = load(&store, co_value.id).await;
                        let expected = if stored.deleted { 1 } else { SESSIONS };
                        assert_eq!(stored.sessions.len(), expected);
                        if stored.deleted {
                            return;
                        }
                        if runs {
                            let runs = read_from(&store, co_value.id, &SessionCounts::new()).await;
                            assert!(runs.len() == 1 || runs.len() == SESSIONS, "{}", runs.len());
                        }
                    }
                })
            })
            .into();
        let mut deleter = Author::deleting(number);
        tokio::task::yield_now().await;
        append(store, co_value.tombstone(deleter.delete(co_value.id))).await;
        super::deleting::erase_all(store, &co_value).await;
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

pub(super) async fn an_abandoned_append_is_whole_or_nothing(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    append(store, co_value.create(Vec::new())).await;
    for yields in 0..20 {
        let (mut next_a, mut next_b) = (a.clone(), b.clone());
        let batch = vec![
            co_value.extend(vec![next_a.write(1, 20)]),
            co_value.extend(vec![next_b.write(1, 20)]),
        ];
        let writing = tokio::spawn({
            let store = Arc::clone(store);
            async move { store.append(batch).await }
        });
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        writing.abort();
        drop(writing.await);
        // Appends take effect one after the other. After this one, the abandoned append has taken
        // effect or never will.
        append(store, co_value.extend(Vec::new())).await;
        let counts = load(store, co_value.id).await.counts();
        if counts.get(&a.session) == next_a.count() {
            (a, b) = (next_a, next_b);
        }
        let written: Vec<_> = [&a, &b].into_iter().filter(|author| author.count() > 0).collect();
        assert_holds(store, co_value.id, &written).await;
    }
}

pub(super) async fn a_closed_store_says_so(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(store, co_value.create(vec![author.write(1, 20)])).await;
    let (first, second) = tokio::join!(store.close(), store.close());
    first.unwrap();
    second.unwrap();
    store.close().await.unwrap();

    let have = SessionCounts::new();
    let extend = vec![co_value.extend(vec![author.write(1, 20)])];
    let answers = [
        store.append(extend).await.err(),
        store.load(co_value.id).await.err(),
        store.read(co_value.id, &have, ALL).await.err(),
        store.list(None, 1).await.err(),
        store.count().await.err(),
        store.erase(co_value.id).await.err(),
        store.erasable(None, 1).await.err(),
        store.track_unsynced(Vec::new()).await.err(),
        store.unsynced(None, 1).await.err(),
        store.stats().await.err(),
    ];
    for (index, answer) in answers.iter().enumerate() {
        assert!(matches!(answer, Some(StorageError::Closed)), "answer {index}: {answer:?}");
    }
}

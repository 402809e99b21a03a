//! Large transactions, long logs, and many sessions and CoValues.

use downbeat_protocol::{SessionCounts, Transaction};

use super::Store;
use super::content::{Author, CoValueFixture, append, append_all, assert_holds, load, read_all};
use super::paging::walk;

/// The longest changes that a transaction may have.
const LARGEST_CHANGES: usize = 1 << 20;

pub(super) async fn a_large_transaction_comes_back(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    // Characters that JSON has to escape make the largest transactions several times larger.
    let changes = "\u{1}".repeat(LARGEST_CHANGES);
    let large = Transaction::trusting(&changes, 1, Some("{}"));
    append(store, co_value.create(vec![author.write(1, 20)])).await;
    append(store, co_value.extend(vec![author.write_these(vec![large])])).await;
    append(store, co_value.extend(vec![author.write(1, 20)])).await;
    append(store, co_value.extend(vec![author.write(1, LARGEST_CHANGES)])).await;
    assert_holds(store, co_value.id, &[&author]).await;
    let text = "ä😀\u{2028}\"\\/\n".repeat(100);
    let odd = Transaction::private(&text, "key_z1", u64::MAX, Some(&text));
    append(store, co_value.extend(vec![author.write_these(vec![odd])])).await;
    assert_holds(store, co_value.id, &[&author]).await;
}

pub(super) async fn a_large_extension_comes_back(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    append(store, co_value.create(vec![a.write(50, 100_000), b.write(50_000, 12)])).await;
    append(store, co_value.extend(vec![a.write(1, 20), b.write(1, 20)])).await;
    assert_holds(store, co_value.id, &[&a, &b]).await;
    for position in [1, 25, 49, 50] {
        let have = SessionCounts::from_iter([
            (a.session.clone(), position),
            (b.session.clone(), position * 1_000),
        ]);
        let runs = store.read(co_value.id, &have, usize::MAX).await.unwrap();
        let first = |author: &Author| {
            let runs = runs.iter().filter(|run| run.session == author.session);
            runs.cloned().collect::<Vec<_>>()
        };
        assert_eq!(a.check(position, &first(&a)), 51);
        assert_eq!(b.check(position * 1_000, &first(&b)), 50_001);
    }
}

pub(super) async fn a_large_header_comes_back(store: &Store) {
    for (number, len) in (1..).zip([1_000, 23_000, 24_000, 25_000, 48_000, 500_000]) {
        let meta = format!(r#"{{"text":"{}"}}"#, "x".repeat(len));
        let co_value = CoValueFixture::with_meta(number, &meta);
        let (mut author, mut deleter) = (Author::new(1), Author::deleting(2));
        append(store, co_value.create(vec![author.write(1, 20)])).await;
        assert_eq!(load(store, co_value.id).await.header, co_value.header);
        append(store, co_value.tombstone(deleter.delete(co_value.id))).await;
        assert_eq!(load(store, co_value.id).await.header, co_value.header);
        super::deleting::erase_all(store, &co_value).await;
        assert_eq!(load(store, co_value.id).await.header, co_value.header);
        assert_holds(store, co_value.id, &[&deleter]).await;
    }
}

pub(super) async fn a_long_log_of_small_extensions_is_read_in_few_runs(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(store, co_value.create(Vec::new())).await;
    for _ in 0..20 {
        let batch = (0..500).map(|_| co_value.extend(vec![author.write(1, 100)])).collect();
        append_all(store, batch).await;
    }
    let runs = read_all(store, co_value.id).await;
    // A checkpoint after each 1,025 transactions, the first to make more than 102,400.
    assert_eq!(runs.len(), 10);
    assert_eq!(runs[0].transactions.len(), 1_025);
    assert_eq!(author.check(0, &runs), 10_000);
}

pub(super) async fn many_sessions_of_one_covalue(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut authors: Vec<_> = (0..2_000).map(Author::new).collect();
    append(store, co_value.create(Vec::new())).await;
    for authors in authors.chunks_mut(500) {
        let sessions = authors.iter_mut().map(|author| author.write(1, 20)).collect();
        append(store, co_value.extend(sessions)).await;
    }
    assert_eq!(load(store, co_value.id).await.sessions.len(), 2_000);
    let batch =
        authors.iter_mut().map(|author| co_value.extend(vec![author.write(1, 20)])).collect();
    append_all(store, batch).await;
    let mut have = SessionCounts::new();
    loop {
        let runs = store.read(co_value.id, &have, 50_000).await.unwrap();
        if runs.is_empty() {
            break;
        }
        for run in runs {
            have.set(&run.session, run.end());
        }
    }
    assert_eq!(have.len(), 2_000);
    assert!(have.iter().all(|(_, count)| *count == 2));
    assert_holds(store, co_value.id, &authors.iter().collect::<Vec<_>>()).await;
}

pub(super) async fn many_covalues(store: &Store) {
    let mut author = Author::new(1);
    let content = author.write(2, 100);
    let mut ids = Vec::new();
    for first in (0..5_000).step_by(1_000) {
        let co_values = (first..first + 1_000).map(CoValueFixture::new);
        let creates = co_values.map(|co_value| {
            ids.push(co_value.id);
            co_value.create(vec![content.clone()])
        });
        append_all(store, creates.collect()).await;
    }
    assert_eq!(store.count().await.unwrap(), 5_000);
    ids.sort();
    assert_eq!(walk(store, 700).await, ids);
    for id in ids.iter().step_by(250) {
        assert_holds(store, *id, &[&author]).await;
    }
}

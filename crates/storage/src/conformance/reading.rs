//! Reading, and the positions at which it cuts.

use std::slice;

use downbeat_protocol::{CHUNK_LEN, KnownState, SessionContent, SessionCounts, Transaction};

use super::Store;
use super::content::{ALL, Author, CoValueFixture, append, load, read_all, read_from, to_usize};

/// Bytes of changes. The fifth transaction of this length crosses a checkpoint (5 * 25,000 >
/// 102,400).
const QUARTER: usize = 25_000;

pub(super) async fn small_extensions_are_merged_up_to_a_checkpoint(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(store, co_value.create(Vec::new())).await;
    for _ in 0..12 {
        append(store, co_value.extend(vec![author.write(1, QUARTER)])).await;
    }
    let runs = read_all(store, co_value.id).await;
    assert_eq!(author.check(0, &runs), 12);
    let ends: Vec<_> = runs.iter().map(SessionContent::end).collect();
    assert_eq!(ends, [5, 10, 12]);
    let head = &load(store, co_value.id).await.sessions[0];
    assert_eq!(head.since_checkpoint, 2 * QUARTER as u64);

    // Exactly the length of a checkpoint is not more than it.
    let exact = CoValueFixture::new(2);
    let mut author = Author::new(2);
    let half = to_usize(CHUNK_LEN / 2);
    append(store, exact.create(vec![author.write(1, half), author.write(1, half)])).await;
    append(store, exact.extend(vec![author.write(1, 20), author.write(1, 20)])).await;
    let ends: Vec<_> = read_all(store, exact.id).await.iter().map(SessionContent::end).collect();
    assert_eq!(ends, [3, 4]);
}

pub(super) async fn an_extension_is_never_split(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(store, co_value.create(vec![author.write(20, QUARTER), author.write(1, 20)])).await;
    let runs = read_all(store, co_value.id).await;
    assert_eq!(author.check(0, &runs), 21);
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].transactions.len(), 20);
}

pub(super) async fn reading_starts_at_any_position(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(store, co_value.create(Vec::new())).await;
    for count in [1, 4, 2, 7, 1] {
        append(store, co_value.extend(vec![author.write(count, QUARTER / 2)])).await;
    }
    let cuts: Vec<_> = read_all(store, co_value.id).await.iter().map(SessionContent::end).collect();
    for position in 0..=author.count() {
        let have = SessionCounts::from_iter([(author.session.clone(), position)]);
        let runs = read_from(store, co_value.id, &have).await;
        assert_eq!(author.check(position, &runs), author.count());
        let ends: Vec<_> = runs.iter().map(SessionContent::end).collect();
        let expected: Vec<_> = cuts.iter().copied().filter(|&cut| cut > position).collect();
        assert_eq!(ends, expected, "the cuts do not depend on where reading starts");
    }
}

pub(super) async fn reading_stops_at_the_budget_and_can_be_gone_on_with(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut authors = [Author::new(1), Author::new(2), Author::new(3)];
    append(store, co_value.create(Vec::new())).await;
    for _ in 0..8 {
        let extensions = authors.iter_mut().map(|author| author.write(2, QUARTER / 10)).collect();
        append(store, co_value.extend(extensions)).await;
    }
    let json = |transactions: &[Transaction]| -> usize {
        transactions.iter().map(|tx| tx.json().len()).sum()
    };
    let extension = json(&authors[0].log[..2]);
    let all = load(store, co_value.id).await.counts();
    for budget in [0, 1, extension, extension + 1, 5 * extension, ALL] {
        let mut have = SessionCounts::new();
        while have != all {
            let runs = store.read(co_value.id, &have, budget).await.unwrap();
            for run in &runs {
                let author = authors.iter().find(|author| author.session == run.session).unwrap();
                author.check(have.get(&run.session), slice::from_ref(run));
                have.set(&run.session, run.end());
            }
            let read: usize = runs.iter().map(|run| json(&run.transactions)).sum();
            assert!(read > 0, "there is progress");
            assert!(read < budget.max(1) + extension, "{read} bytes for a budget of {budget}");
            assert!(have == all || read >= budget, "{read} bytes for a budget of {budget}");
        }
        assert_eq!(store.read(co_value.id, &have, budget).await.unwrap(), []);
    }
}

pub(super) async fn extensions_are_read_as_they_were_appended(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut author = Author::new(1);
    append(store, co_value.create(Vec::new())).await;
    let mut ends = Vec::new();
    for count in [1, 3, 1, 2, 8, 1] {
        append(store, co_value.extend(vec![author.write(count, QUARTER / 2)])).await;
        ends.push(author.count());
    }
    for position in 0..=author.count() {
        let have = SessionCounts::from_iter([(author.session.clone(), position)]);
        let left: Vec<_> = ends.iter().copied().filter(|end| *end > position).collect();
        let read = store.read_extensions(co_value.id, &have, usize::MAX).await.unwrap();
        assert_eq!(author.check(position, &read), author.count());
        assert_eq!(read.iter().map(SessionContent::end).collect::<Vec<_>>(), left);
        // Stops at the budget.
        let some = store.read_extensions(co_value.id, &have, QUARTER).await.unwrap();
        let mut bytes = 0;
        let fits = read.iter().take_while(|extension| {
            let before = bytes;
            bytes += extension.json_len();
            before < QUARTER as u64
        });
        assert_eq!(some[..], read[..fits.count()]);
    }
}

pub(super) async fn sessions_come_in_the_order_of_their_ids(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let mut authors: Vec<_> = (0..20).map(Author::new).collect();
    append(store, co_value.create(Vec::new())).await;
    for author in &mut authors {
        append(store, co_value.extend(vec![author.write(1, 20)])).await;
    }
    let runs = read_all(store, co_value.id).await;
    assert_eq!(runs.len(), 20);
    assert!(runs.is_sorted_by(|a, b| a.session < b.session));
    let stored = load(store, co_value.id).await.sessions;
    assert_eq!(stored.len(), 20);
    assert!(stored.is_sorted_by(|a, b| a.session < b.session));
}

pub(super) async fn there_is_nothing_beyond_what_is_stored(store: &Store) {
    let co_value = CoValueFixture::new(1);
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    append(store, co_value.create(vec![a.write(2, 20), b.write(2, 20)])).await;
    let have = SessionCounts::from_iter([
        (a.session.clone(), 2),
        (b.session.clone(), u64::MAX),
        (Author::new(3).session, 5),
    ]);
    assert_eq!(read_from(store, co_value.id, &have).await, []);
    let have = SessionCounts::from_iter([(b.session.clone(), 3)]);
    let runs = read_from(store, co_value.id, &have).await;
    assert_eq!(a.check(0, &runs), 2);
}

/// `count` fixtures. Those with even numbers are stored, with one session of two transactions each.
/// Also returns the bytes of JSON in each.
async fn every_second_one(store: &Store, count: u64) -> (Vec<CoValueFixture>, usize) {
    let fixtures: Vec<_> = (0..count).map(CoValueFixture::new).collect();
    let mut bytes = 0;
    for (fixture, number) in fixtures.iter().zip(0..count).step_by(2) {
        let mut author = Author::new(number);
        append(store, fixture.create(vec![author.write(1, 20), author.write(1, 20)])).await;
        bytes = author.log.iter().map(|tx| tx.json().len()).sum();
    }
    (fixtures, bytes)
}

pub(super) async fn many_are_looked_up_as_each_by_itself(store: &Store) {
    // More than a backend reads at once, each twice, and not in the order of the ids.
    let (fixtures, _) = every_second_one(store, 40).await;
    let ids: Vec<_> =
        fixtures.iter().chain(fixtures.iter().rev()).map(|fixture| fixture.id).collect();
    let answers = store.load_many(ids.clone()).await;
    assert_eq!(answers.len(), ids.len());
    for (id, answer) in ids.into_iter().zip(answers) {
        assert_eq!(answer.unwrap(), store.load(id).await.unwrap());
    }
    assert!(store.load_many(Vec::new()).await.is_empty());
}

pub(super) async fn many_are_read_as_each_by_itself_within_one_budget(store: &Store) {
    let (fixtures, bytes) = every_second_one(store, 40).await;
    let have: Vec<_> = fixtures.iter().map(|fixture| KnownState::empty(fixture.id)).collect();
    let answers = store.read_many(have.clone(), ALL).await;
    assert_eq!(answers.len(), have.len());
    for (have, answer) in have.iter().zip(answers) {
        assert_eq!(answer.unwrap(), read_all(store, have.id).await);
    }

    // Every second fixture has content, from the first on. The budget ends with the third of those,
    // the fifth fixture.
    for budget in [2 * bytes + 1, 3 * bytes] {
        assert_eq!(store.read_many(have.clone(), budget).await.len(), 5);
    }
    assert_eq!(store.read_many(have[1..].to_vec(), 0).await.len(), 1, "one answer at least");

    // Known states count, one by one.
    let mut partly = have[0].clone();
    let all = read_all(store, partly.id).await;
    partly.sessions.set(&all[0].session, 1);
    let answers = store.read_many(vec![partly, have[2].clone()], ALL).await;
    let ends: Vec<_> = answers
        .iter()
        .map(|runs| {
            runs.as_ref().unwrap().iter().map(|run| (run.after, run.end())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(ends, [vec![(1, 2)], vec![(0, 2)]]);
    assert!(store.read_many(Vec::new(), ALL).await.is_empty());
}

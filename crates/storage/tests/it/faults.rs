use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_storage::conformance::{self, Author, CoValueFixture};
use downbeat_storage::{
    FaultyStorage, InjectedFailure, MemoryStorage, Operation, Storage, StorageError,
};
use tokio::sync::Notify;

fn error() -> StorageError {
    StorageError::io("cannot write", std::io::ErrorKind::StorageFull.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_faults_the_contract_is_kept() {
    conformance::run(|| (), async |()| FaultyStorage::new(MemoryStorage::new())).await;
}

#[tokio::test]
async fn each_fault_hits_one_call_of_its_operation() {
    let store = FaultyStorage::new(MemoryStorage::new());
    store.inject(Operation::Count, InjectedFailure::Fail(error()));
    store.inject(Operation::Count, InjectedFailure::Fail(StorageError::Closed));
    assert!(store.list(None, 1).await.is_ok());
    assert!(matches!(store.count().await, Err(StorageError::Full { .. })));
    assert!(matches!(store.count().await, Err(StorageError::Closed)));
    assert_eq!(store.count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_failed_append_has_done_nothing_everything_or_a_part() {
    for (fault, stored) in [
        (InjectedFailure::Fail(error()), 0),
        (InjectedFailure::FailAfter(error()), 3),
        (InjectedFailure::Torn { writes: 2, error: error() }, 2),
    ] {
        let store = FaultyStorage::new(MemoryStorage::new());
        store.inject(Operation::Append, fault);
        let content = Author::new(1).write(1, 20);
        let batch = (0..3).map(|number| CoValueFixture::new(number).create(vec![content.clone()]));
        assert!(store.append(batch.collect()).await.is_err());
        assert_eq!(store.count().await.unwrap(), stored);
    }
}

#[tokio::test]
async fn a_call_can_be_held_back() {
    let store = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let gate = Arc::new(Notify::new());
    store.inject(Operation::Load, InjectedFailure::Wait(Arc::clone(&gate)));
    let loading = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.load(CoValueFixture::new(1).id).await }
    });
    tokio::task::yield_now().await;
    assert!(!loading.is_finished());
    gate.notify_one();
    assert_eq!(loading.await.unwrap().unwrap(), None);

    let before = Instant::now();
    store.inject(Operation::Load, InjectedFailure::Delay(Duration::from_millis(20)));
    store.load(CoValueFixture::new(1).id).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(20));
}

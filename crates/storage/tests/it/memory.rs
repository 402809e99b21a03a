use downbeat_storage::{MemoryStorage, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_keeps_the_contract() {
    conformance::run(|| (), async |()| MemoryStorage::new()).await;
}

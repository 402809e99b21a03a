//! The order in which jobs are verified, one after the other.

use downbeat_crypto::{AgentSecret, HashChain, random_session_id};
use downbeat_protocol::{Owner, SessionContent, Transaction};
use downbeat_storage::MemoryStorage;

use super::*;

/// A verifier whose only thread is the test's.
struct Bench {
    verifier: Verifier,
    worker: Worker,
    _runtime: tokio::runtime::Runtime,
    _incoming: mpsc::Receiver<Event>,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (events, incoming) = mpsc::channel(1);
        let content = ContentStore::new(Arc::new(MemoryStorage::new()), 0);
        let counters = Arc::<Counters>::default();
        let entered = runtime.enter();
        let (verifier, _) = Verifier::start(0, &content, &events, &counters).unwrap();
        drop(entered);
        let shared = Arc::clone(&verifier.shared);
        let worker = Worker {
            shared,
            content,
            ed25519: Ed25519::default(),
            events,
            counters,
            runtime: runtime.handle().clone(),
        };
        Self { verifier, worker, _runtime: runtime, _incoming: incoming }
    }

    /// Verifies until nothing waits. Returns the results in their order.
    fn results(&self) -> Vec<Verified> {
        let mut results = Vec::new();
        while self.verifier.len() > 0
            && let Some((job, is_bad)) = self.verifier.shared.next()
        {
            results.extend(self.worker.work_on(job, is_bad));
        }
        results
    }
}

/// A job with this many runs in a new session.
fn job(author: u64, id: &str, runs: u64) -> VerifyJob {
    let secret = AgentSecret::generate().unwrap();
    let session = random_session_id(&Owner::Agent(secret.agent())).unwrap();
    let mut chain = HashChain::new();
    let runs = (0..runs).map(|after| {
        let transactions = vec![Transaction::trusting("[]", after, None)];
        chain.append(transactions[0].json());
        let last_signature = secret.signer_secret().sign_chain(&chain);
        SessionContent { session: session.clone(), after, transactions, last_signature }
    });
    let runs = runs.collect();
    VerifyJob {
        id: CoValueId::parse(id).unwrap(),
        session: session.clone(),
        after: 0,
        chain: None,
        signer: secret.agent().signer(),
        runs,
        repeated: Vec::new(),
        claim: None,
        author: PeerId(author),
        is_forked: false,
    }
}

fn forged(mut job: VerifyJob) -> VerifyJob {
    let other = self::job(0, "co_z1", 1).runs.remove(0);
    job.runs[0].last_signature = other.last_signature;
    job
}

#[test]
fn an_honest_job_is_verified_after_one_job_of_a_flood() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.verifier.submit(job(1, "co_z1", 1), None);
    }
    bench.verifier.submit(job(2, "co_z2", 1), None);
    let results = bench.results();
    assert_eq!(results.len(), 101);
    let honest = results.iter().position(|verified| verified.id.as_str() == "co_z2");
    assert_eq!(honest, Some(1));
}

#[test]
fn a_small_job_is_verified_between_the_portions_of_a_large_one() {
    let bench = Bench::new();
    bench.verifier.submit(job(1, "co_z1", 200), None);
    bench.verifier.submit(job(2, "co_z2", 1), None);
    let results = bench.results();
    let accepted: Vec<_> = results.iter().map(|verified| verified.accepted.len()).collect();
    assert_eq!(accepted, [1, 200]);
}

#[test]
fn after_a_bad_signature_the_rest_of_the_content_is_refused_unverified() {
    let bench = Bench::new();
    bench.verifier.submit(job(1, "co_z1", 1), None);
    bench.verifier.submit(forged(job(1, "co_z1", 1)), None);
    for _ in 0..20 {
        bench.verifier.submit(job(1, "co_z1", 1), None);
    }
    // The peer's content of other CoValues, and that of other peers, is verified.
    bench.verifier.submit(job(1, "co_z2", 1), None);
    bench.verifier.submit(job(2, "co_z1", 1), None);
    let results = bench.results();
    let count =
        |is_counted: fn(&Verified) -> bool| results.iter().filter(|v| is_counted(v)).count();
    assert_eq!(count(|verified| verified.rejection.is_none()), 3);
    assert_eq!(
        count(|verified| matches!(verified.rejection, Some(Rejection::BadSignature { .. }))),
        1
    );
    assert_eq!(count(|verified| verified.rejection == Some(Rejection::Errored)), 20);
    // What comes later is verified again: the machine decides what it takes.
    bench.verifier.submit(job(1, "co_z1", 1), None);
    assert_eq!(bench.results()[0].rejection, None);
    assert!(bench.verifier.shared.queue().contents.is_empty());
}

#[test]
fn what_does_not_fit_behind_a_fork_is_no_forgery() {
    let bench = Bench::new();
    let behind = VerifyJob { is_forked: true, ..forged(job(1, "co_z1", 1)) };
    bench.verifier.submit(behind, None);
    bench.verifier.submit(job(1, "co_z1", 1), None);
    let results = bench.results();
    assert!(matches!(results[0].rejection, Some(Rejection::BadSignature { .. })));
    assert_eq!(results[1].rejection, None);
}

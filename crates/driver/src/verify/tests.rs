//! Verifying in portions comes to the same as verifying at once, and no portion is large.

use std::sync::Arc;

use downbeat_crypto::{AgentSecret, random_session_id};
use downbeat_protocol::{Header, Owner, Ruleset, SessionContent, SessionId, Transaction};
use downbeat_storage::{FaultyStorage, InjectedFailure, MemoryStorage, Operation, Storage};
use downbeat_sync::{PeerId, StoreJob};

use super::*;
use crate::block_on;

/// An author with a session, and the log that is written in it.
struct Author {
    secret: AgentSecret,
    session: SessionId,
    chain: HashChain,
    count: u64,
}

impl Author {
    fn new() -> Self {
        let secret = AgentSecret::generate().unwrap();
        let session = random_session_id(&Owner::Agent(secret.agent())).unwrap();
        Self { secret, session, chain: HashChain::new(), count: 0 }
    }

    /// Writes a run of transactions with this many bytes each.
    fn write(&mut self, transactions: usize, bytes: usize) -> SessionContent {
        let after = self.count;
        let text = "x".repeat(bytes);
        let transactions = (0..transactions as u64)
            .map(|index| Transaction::trusting(&text, after + index, None))
            .collect::<Vec<_>>();
        for transaction in &transactions {
            self.chain.append(transaction.json());
        }
        self.count += transactions.len() as u64;
        let last_signature = self.secret.signer_secret().sign_chain(&self.chain);
        SessionContent { session: self.session.clone(), after, transactions, last_signature }
    }

    /// What the author writes if it forgets what it writes afterwards.
    fn forget(&self) -> Self {
        Self {
            secret: self.secret.clone(),
            session: self.session.clone(),
            chain: self.chain.clone(),
            count: self.count,
        }
    }

    fn job(
        &self,
        after: u64,
        runs: Vec<SessionContent>,
        repeated: Vec<SessionContent>,
    ) -> VerifyJob {
        VerifyJob {
            id: id(),
            session: self.session.clone(),
            after,
            chain: None,
            signer: self.secret.agent().signer(),
            runs,
            repeated,
            claim: None,
            author: PeerId(1),
            is_forked: false,
        }
    }
}

fn id() -> CoValueId {
    CoValueId::parse("co_z1").unwrap()
}

/// A store that has these runs.
fn store(storage: Arc<dyn Storage>, sessions: Vec<SessionContent>) -> ContentStore {
    let content = ContentStore::new(storage, u64::MAX);
    let header = Some(Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap());
    let job = StoreJob { id: id(), header, sessions, delete: false, author: None };
    let batch = crate::WriteBatch::new([crate::WriteJob::Store(job, ())]);
    let outcomes = block_on(batch.append(&content)).unwrap();
    assert_eq!(batch.finish(&content, outcomes).count(), 1);
    content
}

fn memory(sessions: Vec<SessionContent>) -> ContentStore {
    store(Arc::new(MemoryStorage::new()), sessions)
}

fn busy() -> StorageError {
    let source = Arc::new(std::io::Error::other("busy"));
    StorageError::Io { action: "cannot read".to_owned(), source }
}

/// Verifies in portions. Returns the result, and the number of portions.
fn steps(content: &ContentStore, job: VerifyJob, limits: VerifyLimits) -> (Verification, usize) {
    let mut verification = Verification::new(job);
    let ed25519 = Ed25519::default();
    let mut steps = 1;
    while !block_on(verification.step(content, &ed25519, limits)) {
        steps += 1;
    }
    (verification, steps)
}

fn limits(checks: usize, bytes: usize) -> VerifyLimits {
    VerifyLimits { checks, bytes }
}

#[test]
fn many_signatures_are_checked_in_portions() {
    let (content, mut author) = (memory(Vec::new()), Author::new());
    let runs: Vec<_> = (0..50).map(|_| author.write(1, 10)).collect();
    let (verification, steps) =
        steps(&content, author.job(0, runs.clone(), Vec::new()), limits(16, 1 << 20));
    assert_eq!(steps, 4);
    let verified = verification.into_verified();
    assert_eq!((verified.accepted, verified.rejection), (runs, None));
    assert_eq!(verified.chain.unwrap().head(), author.chain.head());
}

#[test]
fn a_bad_signature_ends_it_with_what_came_before() {
    let (content, mut author) = (memory(Vec::new()), Author::new());
    let mut runs: Vec<_> = (0..30).map(|_| author.write(1, 10)).collect();
    runs[20].last_signature = runs[19].last_signature;
    let (verification, steps) =
        steps(&content, author.job(0, runs, Vec::new()), limits(16, 1 << 20));
    assert_eq!(steps, 2);
    let verified = verification.into_verified();
    assert_eq!(verified.accepted.len(), 20);
    assert_eq!(verified.rejection, Some(Rejection::BadSignature { after: 20 }));
}

#[test]
fn a_large_run_is_hashed_in_portions_even_within_a_transaction() {
    for (transactions, bytes) in [(1, 100_000), (100, 1_000), (7, 15_000)] {
        let (content, mut author) = (memory(Vec::new()), Author::new());
        let run = author.write(transactions, bytes);
        let total = usize::try_from(run.json_len()).unwrap();
        let (verification, steps) =
            steps(&content, author.job(0, vec![run], Vec::new()), limits(16, 10_000));
        assert_eq!(steps, total.div_ceil(10_000));
        assert!(verification.failure().is_none());
        assert_eq!(verification.into_verified().accepted.len(), 1);
    }
}

#[test]
fn the_log_before_is_read_in_portions() {
    let mut author = Author::new();
    let stored: Vec<_> = (0..20).map(|_| author.write(1, 1_000)).collect();
    let others = (0..5).map(|_| Author::new().write(3, 1_000));
    let content = memory(stored.into_iter().chain(others).collect());
    let next = author.write(1, 10);
    let job = author.job(20, vec![next], Vec::new());
    let (verification, steps) = steps(&content, job, limits(16, 4_000));
    assert!(steps > 4, "{steps}");
    assert!(
        (20_000..24_000).contains(&verification.bytes_read()),
        "the other sessions are not read"
    );
    assert_eq!(verification.into_verified().accepted.len(), 1);
}

#[test]
fn a_fork_is_found_in_portions_and_a_repetition_is_none() {
    let mut author = Author::new();
    let mut runs: Vec<_> = (0..10).map(|_| author.write(1, 1_000)).collect();
    let mut lost = author.forget();
    let end = author.write(2, 1_000);
    runs.push(end.clone());
    let content = memory(runs.clone());
    let next = author.write(1, 10);

    let job = author.job(12, vec![next.clone()], vec![end]);
    let (verification, steps_of_repetition) = steps(&content, job, limits(16, 1_500));
    assert!(steps_of_repetition > 1);
    assert_eq!(verification.into_verified().accepted, [next]);

    let fork = lost.write(1, 10);
    let mut forged = fork.clone();
    forged.last_signature = runs[0].last_signature;
    for (run, expected) in
        [(fork, Rejection::Forked { at: 10 }), (forged, Rejection::BadSignature { after: 10 })]
    {
        let job = author.job(12, Vec::new(), vec![run]);
        let (verification, steps) = steps(&content, job, limits(16, 1_500));
        assert!(steps > 5, "{steps}");
        assert_eq!(verification.into_verified().rejection, Some(expected));
    }
}

#[test]
fn after_a_failure_of_storage_it_goes_on_where_it_stopped() {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let mut author = Author::new();
    let stored: Vec<_> = (0..20).map(|_| author.write(1, 1_000)).collect();
    let storage_of_content: Arc<dyn Storage> = storage.clone();
    store(Arc::clone(&storage_of_content), stored);
    // Nothing of it is in memory.
    let content = ContentStore::new(storage_of_content, 0);
    let next = author.write(1, 10);
    let mut verification = Verification::new(author.job(20, vec![next], Vec::new()));
    let ed25519 = Ed25519::default();
    let mut failures = 0;
    loop {
        if failures < 3 {
            storage.inject(Operation::Read, InjectedFailure::Fail(busy()));
            failures += 1;
            assert!(block_on(verification.step(&content, &ed25519, limits(1, 3_000))));
            assert!(verification.is_worth_a_retry());
        }
        if block_on(verification.step(&content, &ed25519, limits(1, 3_000))) {
            break;
        }
    }
    assert!(verification.bytes_read() < 24_000, "nothing is read twice");
    assert_eq!(verification.into_verified().accepted.len(), 1);
}

//! Verifying parsed content. Must take at most 20 % longer than the Ed25519 verification in it.

use divan::{Bencher, black_box};
use downbeat_core::{CoValue, SessionLog};
use downbeat_crypto::{AgentSecret, HashChain, VerifyingKey, session_id};
use downbeat_protocol::{
    CoValueId, Content, Header, Limits, Owner, SessionContent, SessionId, Transaction,
};
use ed25519_dalek::Verifier;

const TRANSACTIONS: u64 = 10;

/// The length of `encryptedChanges` of an edit of a few fields.
const CHANGES_LEN: usize = 240;

fn main() {
    divan::main();
}

struct Given {
    secret: AgentSecret,
    session: SessionId,
    header: Header,
    run: SessionContent,
    content: Content,
}

/// A content message of 10 private transactions.
fn given() -> Given {
    let secret = AgentSecret::from_secret_seed(&[1; 32]);
    let session = session_id(&Owner::Agent(secret.agent()), [1; 8]);
    let header = r#"{"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"comap"}"#;
    let header = Header::parse(&header.into(), &Limits::default()).unwrap();
    let mut value = CoValue::new(header.clone());
    for index in 0..TRANSACTIONS {
        let changes = format!("encrypted_U{}", "kLm9".repeat(CHANGES_LEN / 4));
        let transaction = Transaction::private(
            &changes,
            "key_z4gtg2L4v6iFHk4a46",
            1_700_000_000_000 + index,
            None,
        );
        value.append(&session, transaction, secret.signer_secret()).unwrap();
    }
    let content = value.content_since(None).remove(0);
    Given { secret, session, header, run: content.sessions[0].clone(), content }
}

/// Only the Ed25519 verification of the message.
fn bare(given: &Given) -> impl Fn(&ed25519_dalek::VerifyingKey) {
    let mut chain = HashChain::new();
    chain.append_all(given.run.transactions.iter().map(|transaction| &transaction.json()[..]));
    let message = format!("\"{}\"", chain.head());
    let signature = given.run.last_signature.to_bytes().unwrap();
    let signature = ed25519_dalek::Signature::from_bytes(&signature);
    move |key| key.verify(black_box(message.as_bytes()), &signature).unwrap()
}

/// Lower bound of the next benchmark: a verification with a decompressed key.
#[divan::bench]
fn bare_ed25519(bencher: Bencher<'_, '_>) {
    let given = given();
    let signer = given.secret.agent().signer();
    let key = ed25519_dalek::VerifyingKey::from_bytes(signer.as_bytes()).unwrap();
    let verify = bare(&given);
    bencher.bench_local(|| verify(&key));
}

#[divan::bench]
fn a_log_taking_10_transactions(bencher: Bencher<'_, '_>) {
    let given = given();
    let key = VerifyingKey::new(given.secret.agent().signer()).unwrap();
    bencher.with_inputs(|| SessionLog::new(given.session.clone())).bench_local_values(|mut log| {
        log.extend(black_box(&given.run), &key).unwrap();
        log
    });
}

/// A known session, whose key is already decompressed.
#[divan::bench]
fn a_covalue_taking_10_more_transactions(bencher: Bencher<'_, '_>) {
    let given = given();
    let mut ahead = CoValue::from_content(&given.content, &no_accounts).unwrap().0;
    let before = ahead.clone();
    for transaction in &given.run.transactions {
        ahead.append(&given.session, transaction.clone(), given.secret.signer_secret()).unwrap();
    }
    let content = ahead.content_since(Some(&before.known_state())).remove(0);
    bencher.with_inputs(|| before.clone()).bench_local_values(|mut value| {
        assert_eq!(value.ingest(black_box(&content), &no_accounts).unwrap().added(), TRANSACTIONS);
        value
    });
}

/// What a verification with a decompressed key saves.
#[divan::bench]
fn decompressing_a_key(bencher: Bencher<'_, '_>) {
    let signer = given().secret.agent().signer();
    bencher.bench_local(|| VerifyingKey::new(*black_box(&signer)).unwrap());
}

/// Lower bound of the next benchmark: a verification that decompresses the key.
#[divan::bench]
fn bare_ed25519_with_a_new_key(bencher: Bencher<'_, '_>) {
    let given = given();
    let signer = given.secret.agent().signer();
    let verify = bare(&given);
    bencher.bench_local(|| {
        let key = ed25519_dalek::VerifyingKey::from_bytes(black_box(signer.as_bytes()));
        verify(&key.unwrap());
    });
}

/// A new session, whose key must be decompressed.
#[divan::bench]
fn a_new_covalue_taking_10_transactions(bencher: Bencher<'_, '_>) {
    let given = given();
    bencher.with_inputs(|| CoValue::new(given.header.clone())).bench_local_values(|mut value| {
        assert_eq!(
            value.ingest(black_box(&given.content), &no_accounts).unwrap().added(),
            TRANSACTIONS
        );
        value
    });
}

fn no_accounts(_: CoValueId) -> Option<downbeat_protocol::AgentId> {
    None
}

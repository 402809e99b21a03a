//! Allocations for ingesting signed content. Unlike times, they are the same in every run. Each
//! bound is the measured value (in the comment) plus a tenth. Raise a bound only for a good reason,
//! and lower it after an improvement.

use downbeat_core::{CoValue, SessionLog};
use downbeat_crypto::{AgentSecret, VerifyingKey, session_id};
use downbeat_protocol::{
    AgentId, CoValueId, Content, Header, Limits, Owner, SessionId, Transaction,
};

struct Given {
    secret: AgentSecret,
    session: SessionId,
    value: CoValue,
    /// Ten private transactions under one signature, and ten more.
    contents: [Content; 2],
}

fn given() -> Given {
    let secret = AgentSecret::from_secret_seed(&[1; 32]);
    let session = session_id(&Owner::Agent(secret.agent()), [1; 8]);
    let header = r#"{"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"comap"}"#;
    let header = Header::parse(&header.into(), &Limits::default()).unwrap();
    let mut value = CoValue::new(header);
    let contents = [0, 1].map(|_| {
        let before = value.known_state();
        for _ in 0..10 {
            let changes = format!("encrypted_U{}", "kLm9".repeat(60));
            let made_at = 1_700_000_000_000;
            let transaction =
                Transaction::private(&changes, "key_z4gtg2L4v6iFHk4a46", made_at, None);
            value.append(&session, transaction, secret.signer_secret()).unwrap();
        }
        let since = before.header.then_some(&before).filter(|known| !known.sessions.is_empty());
        value.content_since(since).remove(0)
    });
    Given { secret, session, value, contents }
}

fn no_accounts(_: CoValueId) -> Option<AgentId> {
    None
}

/// Checks how often some work allocates on this thread, and how many bytes in total.
#[track_caller]
fn assert_costs<T>(allocations: u64, bytes: u64, work: impl FnOnce() -> T) {
    let info = allocation_counter::measure(|| drop(work()));
    let measured = (info.count_total, info.bytes_total);
    assert!(measured.0 <= allocations && measured.1 <= bytes, "{measured:?}");
}

#[test]
fn a_log_takes_ten_transactions_without_copying_them() {
    let Given { secret, session, contents: [content, _], .. } = given();
    let key = VerifyingKey::new(secret.agent().signer()).unwrap();
    let mut log = SessionLog::new(session);
    // Measured: 3 of 10592 bytes.
    assert_costs(3, 11_700, || log.extend(&content.sessions[0], &key).unwrap());
}

#[test]
fn a_new_covalue_takes_ten_transactions_without_copying_them() {
    let Given { contents: [content, _], .. } = given();
    // Measured: 10 of 14595 bytes.
    assert_costs(11, 16_100, || CoValue::from_content(&content, &no_accounts).unwrap());
}

#[test]
fn a_covalue_takes_ten_more_without_copying_what_it_has() {
    let Given { contents: [first, second], .. } = given();
    let (mut value, _) = CoValue::from_content(&first, &no_accounts).unwrap();
    // Measured: 4 of 11392 bytes.
    assert_costs(4, 12_600, || value.ingest(&second, &no_accounts).unwrap());
}

#[test]
fn content_is_given_without_copying_transactions() {
    let Given { value, .. } = given();
    // Measured: 4 of 1736 bytes.
    assert_costs(4, 1_910, || value.content_since(None));
}

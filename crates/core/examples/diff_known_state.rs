//! Compares the known states of two peers, and exchanges the content that they lack.
//!
//! ```sh
//! cargo run -p downbeat-core --example diff_known_state
//! ```

use std::error::Error;

use downbeat_core::{CoValue, known_state};
use downbeat_crypto::{AgentSecret, session_id};
use downbeat_protocol::{AgentId, CoValueId, Header, Owner, Ruleset, SessionId, Transaction};

fn main() -> Result<(), Box<dyn Error>> {
    let header = Header::builder("colist", Ruleset::UnsafeAllowAll).deterministic().build()?;
    let (mut alice, mut bob) = (CoValue::new(header.clone()), CoValue::new(header));

    // Two devices write offline.
    write(&mut alice, 1, &["a", "b"])?;
    write(&mut bob, 2, &["c"])?;
    println!("alice has {:?}", alice.known_state().sessions);
    println!("bob has   {:?}", bob.known_state().sessions);

    let (at_alice, at_bob) = (alice.known_state(), bob.known_state());
    let missing = known_state::missing(&at_alice.sessions, &at_bob.sessions);
    println!("bob lacks {missing:?}");

    // Each sends the content that the other lacks.
    let no_accounts = |_account: CoValueId| -> Option<AgentId> { None };
    for content in alice.content_since(Some(&at_bob)) {
        println!("bob takes {} transactions", bob.ingest(&content, &no_accounts)?.added());
    }
    for content in bob.content_since(Some(&at_alice)) {
        println!("alice takes {} transactions", alice.ingest(&content, &no_accounts)?.added());
    }

    let mut both = at_alice;
    known_state::merge(&mut both, &at_bob);
    assert_eq!(alice.known_state(), both);
    assert_eq!(bob.known_state(), both);
    println!("both have {:?}", both.sessions);
    Ok(())
}

/// Appends items to a session. The same number gives the same agent and session.
fn write(value: &mut CoValue, number: u8, items: &[&str]) -> Result<SessionId, Box<dyn Error>> {
    let secret = AgentSecret::from_secret_seed(&[number; 32]);
    let session = session_id(&Owner::Agent(secret.agent()), [number; 8]);
    for item in items {
        let append = format!(r#"[{{"after":"start","op":"app","value":"{item}"}}]"#);
        let transaction = Transaction::trusting(&append, 1_700_000_000_000, None);
        value.append(&session, transaction, secret.signer_secret())?;
    }
    Ok(session)
}

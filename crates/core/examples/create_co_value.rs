//! Creates an account, a group of which it is the admin, and a CoMap in the group, and prints the
//! messages that bring them to a server.
//!
//! ```sh
//! cargo run -p downbeat-core --example create_co_value
//! ```

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use downbeat_core::CoValue;
use downbeat_crypto::{AgentSecret, random_session_id, uniqueness};
use downbeat_protocol::{Header, Message, Owner, Ruleset, Transaction, Uniqueness, json};

fn main() -> Result<(), Box<dyn Error>> {
    let secret = AgentSecret::generate()?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;

    // The account is a CoValue whose header names the agent. It writes to itself as that agent,
    // and to everything else as the account.
    let agent = Owner::Agent(secret.agent());
    let account = Header::builder("comap", Ruleset::Group { initial_admin: agent.clone() })
        .meta(r#"{"type":"account"}"#)
        .uniqueness(Uniqueness::Null)
        .build()?;
    let mut account = CoValue::new(account);
    let admin = set(agent.as_str(), "admin", now);
    account.append(&random_session_id(&agent)?, admin, secret.signer_secret())?;

    let owner = Owner::Account(account.id());
    let session = random_session_id(&owner)?;
    let mut group = new_value(&owner, "comap", Ruleset::Group { initial_admin: owner.clone() })?;
    group.append(&session, set(owner.as_str(), "admin", now), secret.signer_secret())?;

    let mut map = new_value(&owner, "comap", Ruleset::OwnedByGroup { group: group.id() })?;
    map.append(&session, set("greeting", "hello", now), secret.signer_secret())?;

    // What others depend on goes first.
    for value in [account, group, map] {
        for content in value.content_since(None) {
            let mut line = Vec::new();
            json::encode_message(&Message::Content(content), &mut line);
            println!("{}", String::from_utf8(line)?);
        }
    }
    Ok(())
}

/// A trusting transaction that sets a key of a CoMap.
fn set(key: &str, value: &str, now: u64) -> Transaction {
    let changes = format!(r#"[{{"key":"{key}","op":"set","value":"{value}"}}]"#);
    Transaction::trusting(&changes, now, None)
}

/// A CoValue unlike all others.
fn new_value(owner: &Owner, co_type: &str, ruleset: Ruleset) -> Result<CoValue, Box<dyn Error>> {
    // Any 12 bytes that nobody has used; those of a hash over a new session will do.
    let fresh = random_session_id(owner)?;
    let hash = downbeat_crypto::hash(fresh.as_str().as_bytes());
    let (bytes, _) = hash.as_bytes().split_first_chunk().ok_or("a hash has 32 bytes")?;
    let unique = Uniqueness::Text(uniqueness(*bytes));
    Ok(CoValue::new(Header::builder(co_type, ruleset).uniqueness(unique).build()?))
}

//! Creates an account, a group with the account as admin, and a CoMap in the group, and prints the
//! messages that upload them to a server.
//!
//! ```sh
//! cargo run -p downbeat-core --example create_co_value
//! ```

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use downbeat_core::CoValue;
use downbeat_crypto::{AgentSecret, random_session_id};
use downbeat_protocol::{Header, Message, Owner, Ruleset, Transaction, json};

fn main() -> Result<(), Box<dyn Error>> {
    let secret = AgentSecret::generate()?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;

    // The account is a CoValue whose header names the agent. Its own sessions belong to the agent;
    // its sessions in other CoValues belong to the account.
    let agent = Owner::Agent(secret.agent());
    let mut account = CoValue::new(Header::account(&secret.agent()));
    let admin = set(agent.as_str(), "admin", now);
    account.append(&random_session_id(&agent)?, admin, secret.signer_secret())?;

    let owner = Owner::Account(account.id());
    let session = random_session_id(&owner)?;
    let admin = Ruleset::Group { initial_admin: owner.clone() };
    let mut group = CoValue::new(Header::builder("comap", admin).build()?);
    group.append(&session, set(owner.as_str(), "admin", now), secret.signer_secret())?;

    let ruleset = Ruleset::OwnedByGroup { group: group.id() };
    let mut map = CoValue::new(Header::builder("comap", ruleset).build()?);
    map.append(&session, set("greeting", "hello", now), secret.signer_secret())?;

    // A CoValue comes after those that it depends on.
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

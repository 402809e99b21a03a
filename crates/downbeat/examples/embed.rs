//! A node inside a program: it serves Jazz clients over WebSocket, and the program itself writes to
//! a CoValue.
//!
//! ```sh
//! cargo run -p downbeat --example embed --no-default-features --features sled,ws -- data
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use downbeat::crypto::{AgentSecret, random_session_id};
use downbeat::protocol::Owner;
use downbeat::{
    CoValueId, Header, Listener, Node, Ruleset, SledStorage, Transaction, WsListener, WsOptions,
};

/// The time for an acknowledgement. A local store needs milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
#[cfg_attr(test, expect(dead_code, reason = "the test calls `run`"))]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: embed DIRECTORY")?;
    let id = run(&PathBuf::from(path)).await?;
    println!("stored {id}");
    Ok(())
}

/// Serves clients, and stores a map with one entry. Returns the id of the map.
pub(crate) async fn run(directory: &Path) -> Result<CoValueId, Box<dyn std::error::Error>> {
    // Clients connect here. A server on the network listens on a fixed port instead.
    let listener = WsListener::bind("127.0.0.1:0", WsOptions::default()).await?;
    println!("clients connect to {}", listener.url());
    let node = Node::builder(SledStorage::open(directory)?).listen(listener).start()?;

    // The program writes as an agent of its own. Everyone may write to this map.
    let agent = AgentSecret::generate()?;
    let session = random_session_id(&Owner::Agent(agent.agent()))?;
    let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build()?;
    let mut map = node.local().create(header).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let set = r#"[{"op":"set","key":"greeting","value":"hello"}]"#;
    let entry = Transaction::trusting(set, u64::try_from(now)?, None);
    map.append(&session, [entry], agent.signer_secret()).await?;
    map.stored(TIMEOUT).await?;

    // Stores what clients have sent, acknowledges it, and closes their connections.
    node.shutdown().await?;
    Ok(map.id())
}

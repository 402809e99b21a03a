//! Verifies files of content messages, one message on each line, in the JSON of the wire.
//!
//! The files must be in the order of dependency: accounts before the CoValues that they write to,
//! and groups before the deleted CoValues that they own. Without arguments, the example verifies
//! content recorded from the reference.
//!
//! ```sh
//! cargo run -p downbeat-core --example verify_file -- account.jsonl group.jsonl map.jsonl
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::{Group, Roles};
use downbeat_core::{CoValue, Directory};
use downbeat_protocol::json::Lines;
use downbeat_protocol::{AgentId, CoValueId, Content, Limits, Message};

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files.is_empty() {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        let names = ["account", "account-of-bob", "group-parent", "group", "comap", "deleted"];
        files.extend(names.iter().map(|name| recorded.join(name).with_extension("jsonl")));
    }
    let mut verified = Verified::default();
    for file in files {
        println!("{}", file.display());
        for content in read(&file)? {
            verified.take(&content)?;
        }
    }
    Ok(())
}

/// The content messages of a file.
fn read(file: &Path) -> Result<Vec<Content>, Box<dyn Error>> {
    let limits = Limits::default();
    let mut contents = Vec::new();
    for line in Lines::new(BufReader::new(File::open(file)?), limits.message_bytes) {
        let line = line?;
        match line.message(&limits) {
            Ok(Message::Content(content)) => contents.push(content),
            Ok(other) => println!("  line {} is a {} message", line.number, other.action()),
            Err(error) => return Err(format!("line {}: {error}", line.number).into()),
        }
    }
    Ok(contents)
}

/// The CoValues that have been verified.
#[derive(Default)]
struct Verified(BTreeMap<CoValueId, CoValue>);

impl Verified {
    fn take(&mut self, content: &Content) -> Result<(), Box<dyn Error>> {
        let (value, ingested) = match self.0.get(&content.id) {
            None => CoValue::from_content(content, self)?,
            Some(known) => {
                let mut value = known.clone();
                let ingested = value.ingest(content, self)?;
                (value, ingested)
            }
        };
        println!("  {}: {} new transactions", value.id(), ingested.added());
        for (session, error) in ingested.refused() {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            println!("  refused {session}: {error}{cause}");
        }
        for malformed in &content.malformed {
            println!("  malformed {}: {}", malformed.session, malformed.error);
        }
        if value.is_deleted() {
            println!("  it is deleted");
        }
        self.0.insert(value.id(), value);
        Ok(())
    }
}

impl Directory for Verified {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        self.0.get(&account)?.header().account_agent().cloned()
    }

    fn may_delete(&self, claim: &Claim) -> Result<(), DeleteError> {
        let mut roles = Roles::new();
        for value in self.0.values() {
            let sessions = value.sessions().map(|log| (log.session(), log.transactions()));
            roles.insert(Group::new(value.id(), value.header(), sessions));
        }
        let role = roles.role_of(claim.group, &claim.author.clone().into(), Some(claim.made_at));
        claim.decide(role.map_err(|_| DeleteError::RoleUnknown)?)
    }
}

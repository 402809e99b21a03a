//! Content recorded from the reference (cojson 0.20.19), and the facts that it states.
//!
//! One file per CoValue has the messages for a peer without the CoValue.

use std::path::PathBuf;

use bytes::Bytes;
use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::roles::{Group, Roles};
use downbeat_core::{CoValue, Directory};
use downbeat_protocol::{AgentId, CoValueId, Content, Limits, Message, json};
use serde_json::Value;

/// The recorded CoValues, each after those that it depends on.
pub(crate) const NAMES: [&str; 11] = [
    "account",
    "account-of-bob",
    "group-parent",
    "group",
    "comap",
    "colist",
    "coplaintext",
    "costream",
    "binary",
    "branch",
    "deleted",
];

/// The bytes of a file of vectors.
pub(crate) fn file(name: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    std::fs::read(path).unwrap().into()
}

/// The messages of a recorded CoValue.
pub(crate) fn messages(name: &str) -> Vec<Content> {
    let file = file(&format!("{name}.jsonl"));
    // Newlines join batched messages; the last newline ends the file.
    let frame = file.slice_ref(file.trim_ascii_end());
    let frame = json::decode_frame(&frame, &Limits::default()).unwrap();
    assert!(frame.rejected.is_empty(), "{name}: {:?}", frame.rejected);
    frame
        .messages
        .into_iter()
        .map(|message| match message {
            Message::Content(content) => content,
            other => panic!("{name}: {other:?}"),
        })
        .collect()
}

/// The facts that the reference states about the recorded CoValues.
pub(crate) fn facts() -> Value {
    serde_json::from_slice(&file("facts.json")).unwrap()
}

/// The recorded CoValues, as a directory for verification.
#[derive(Default)]
pub(crate) struct Loaded(pub(crate) Vec<CoValue>);

impl Loaded {
    /// All recorded CoValues.
    pub(crate) fn all() -> Self {
        let mut loaded = Self::default();
        for name in NAMES {
            loaded.load(name);
        }
        loaded
    }

    /// Ingests the messages of a recorded CoValue without refusals.
    pub(crate) fn load(&mut self, name: &str) -> &CoValue {
        let mut messages = messages(name).into_iter();
        let (mut value, ingested) = CoValue::from_content(&messages.next().unwrap(), self).unwrap();
        assert_eq!(ingested.refused().next(), None, "{name}");
        for message in messages {
            let ingested = value.ingest(&message, self).unwrap();
            assert_eq!(ingested.refused().next(), None, "{name}");
        }
        self.0.push(value);
        self.0.last().unwrap()
    }

    /// The recorded CoValue with this id.
    pub(crate) fn get(&self, id: CoValueId) -> Option<&CoValue> {
        self.0.iter().find(|value| value.id() == id)
    }

    /// The roles of all recorded groups.
    pub(crate) fn roles(&self) -> Roles {
        let mut roles = Roles::new();
        for value in &self.0 {
            let sessions = value.sessions().map(|log| (log.session(), log.transactions()));
            roles.insert(Group::new(value.id(), value.header(), sessions));
        }
        roles
    }
}

impl Directory for Loaded {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        self.get(account)?.header().account_agent().cloned()
    }

    fn may_delete(&self, claim: &Claim) -> Result<(), DeleteError> {
        let author = claim.author.clone().into();
        let role = self
            .roles()
            .role_of(claim.group, &author, Some(claim.made_at))
            .map_err(|_| DeleteError::RoleUnknown)?;
        claim.decide(role)
    }
}

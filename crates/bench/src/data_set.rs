//! The CoMaps that one workload uploads and others fetch.

use std::collections::HashMap;

use downbeat_protocol::{CoValueId, Content, KnownState, SessionId, Signature};

use crate::author::Author;
use crate::error::BenchError;

/// The number of sessions of a data set, like those of an account with a few devices.
const SESSIONS: u64 = 4;

/// Many small CoValues of one author.
pub(crate) struct DataSet {
    pub basics: Vec<Content>,
    pub values: Vec<Value>,
}

/// One CoValue of a data set: its session and its expected content.
pub(crate) struct Value {
    pub content: Content,
    pub known: KnownState,
    session: SessionId,
    signature: Signature,
}

/// The progress of a client with each CoValue that it fetches.
pub(crate) struct Fetched<'a> {
    expected: HashMap<CoValueId, &'a Value>,
}

impl DataSet {
    pub(crate) fn new(
        seed: u64,
        co_values: usize,
        transactions: usize,
    ) -> Result<Self, BenchError> {
        if co_values == 0 || transactions == 0 {
            return Err(BenchError::Size("a data set needs at least one CoValue and transaction"));
        }
        let author = Author::new(seed);
        let values = (0..co_values as u64)
            .map(|number| {
                let mut log = author.map(&format!("map {number}"), number % SESSIONS);
                let content = log.write(&author, transactions);
                let signature = content.sessions[0].last_signature;
                Value {
                    content,
                    known: log.known_state(),
                    session: log.session().clone(),
                    signature,
                }
            })
            .collect();
        Ok(Self { basics: author.basics().to_vec(), values })
    }

    /// The CoValues in parts of about the same size, one part for each client.
    pub(crate) fn shares(
        &self,
        clients: usize,
    ) -> Result<std::slice::Chunks<'_, Value>, BenchError> {
        if clients == 0 {
            return Err(BenchError::Size("a workload needs at least one connection"));
        }
        Ok(self.values.chunks(self.values.len().div_ceil(clients)))
    }
}

impl<'a> Fetched<'a> {
    pub(crate) fn new(values: &'a [Value]) -> Self {
        Self { expected: values.iter().map(|value| (value.content.id, value)).collect() }
    }

    /// Whether this content completes a CoValue. Content that differs from the author's is an
    /// error.
    pub(crate) fn complete(&self, content: &Content) -> Result<bool, BenchError> {
        let Some(value) = self.expected.get(&content.id) else { return Ok(false) };
        let wrong = || BenchError::Wrong(format!("{} differs from the upload", content.id));
        let [part] = content.sessions.as_slice() else { return Err(wrong()) };
        let complete = part.end() == value.known.sessions.get(&value.session);
        if part.session != value.session || (complete && part.last_signature != value.signature) {
            return Err(wrong());
        }
        Ok(complete)
    }
}

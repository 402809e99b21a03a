//! Verified copies of the CoValues of a server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use downbeat_core::CoValue;
use downbeat_protocol::{
    CoValueId, Content, Known, KnownState, Message, SessionContent, SessionCounts,
};
use downbeat_storage::Storage;
use downbeat_transport::{Connection, Connector};
use downbeat_transport_ws::{WsConnector, WsOptions};
use tokio::time::Instant;

use crate::truth::Truth;

/// The number of CoValues that are requested at the same time.
const ASKED: usize = 64;

/// Bytes of one read from a store.
const READ_BYTES: usize = 1 << 20;

/// Verified copies of CoValues.
pub(crate) struct Copies<'a> {
    truth: &'a Truth,
    values: BTreeMap<CoValueId, CoValue>,
    /// CoValues that the server does not have.
    absent: BTreeSet<CoValueId>,
}

impl<'a> Copies<'a> {
    fn new(truth: &'a Truth) -> Self {
        Self { truth, values: BTreeMap::new(), absent: BTreeSet::new() }
    }

    /// Loads CoValues from the server, until all acknowledged content is there. A CoValue is
    /// missing in the result if no message comes within `silence`.
    pub(crate) async fn load(
        truth: &'a Truth,
        url: &str,
        ids: &BTreeSet<CoValueId>,
        silence: Duration,
    ) -> Result<Self> {
        let connection = WsConnector::new(url, WsOptions::default())?.connect().await;
        let Connection { mut sender, mut receiver, .. } =
            connection.context("the server accepts no connection")?;
        let mut copies = Self::new(truth);
        let all: Vec<_> = ids.iter().copied().collect();
        for some in all.chunks(ASKED) {
            let new = some.iter().filter(|id| !copies.values.contains_key(id));
            let loads: Vec<_> = new.map(|id| Message::Load(KnownState::empty(*id))).collect();
            sender.send(&loads).await?;
            // Empty frames do not count as messages.
            let mut last = Instant::now();
            while !some.iter().all(|id| copies.is_settled(*id)) {
                let next = tokio::time::timeout_at(last + silence, receiver.receive());
                let Ok(incoming) = next.await else { break };
                let incoming = incoming?.context("the server has closed the connection")?;
                ensure!(incoming.rejected.is_empty(), "malformed: {:?}", incoming.rejected);
                if !incoming.messages.is_empty() {
                    last = Instant::now();
                }
                let mut answers = Vec::new();
                for message in incoming.messages {
                    answers.extend(copies.hear(message)?);
                }
                sender.send(&answers).await?;
            }
        }
        Ok(copies)
    }

    /// Reads everything from a store that no server has open. Fails on content that was never
    /// written.
    pub(crate) async fn read_all(truth: &'a Truth, storage: &dyn Storage) -> Result<Self> {
        let ids = storage.list(None, usize::MAX).await?;
        ensure!(storage.count().await? == ids.len() as u64, "the count of CoValues is wrong");
        let known = truth.ids();
        let mut copies = Self::new(truth);
        // Groups and accounts first, because others depend on them.
        let (first, second): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| truth.is_group(*id));
        for id in first.into_iter().chain(second) {
            ensure!(known.contains(&id), "{id} is stored, but was never created");
            let stored = storage.load(id).await?.context("a listed CoValue is missing")?;
            let mut have = SessionCounts::new();
            let mut header = Some(stored.header.clone());
            loop {
                let runs = storage.read(id, &have, READ_BYTES).await?;
                if runs.is_empty() && header.is_none() {
                    break;
                }
                for run in &runs {
                    have.raise(&run.session, run.end());
                }
                copies.ingest(&content(id, header.take(), &stored.header, runs))?;
            }
            ensure!(
                have == stored.counts(),
                "{id}: the lengths of the logs differ from their heads"
            );
        }
        Ok(copies)
    }

    /// Checks that no acknowledged content is missing, and that all content was written.
    pub(crate) fn check(&self, ids: &BTreeSet<CoValueId>) -> Result<()> {
        ids.iter().try_for_each(|id| self.truth.check(*id, self.values.get(id)))
    }

    /// Checks that all content was written. Acknowledged content may be missing.
    pub(crate) fn check_parts(&self) -> Result<()> {
        self.values.values().try_for_each(|copy| self.truth.check_part(copy))
    }

    /// The known state of each copy.
    pub(crate) fn states(&self) -> BTreeMap<CoValueId, KnownState> {
        self.values.values().map(|copy| (copy.id(), copy.known_state())).collect()
    }

    /// Whether a CoValue is complete.
    fn is_settled(&self, id: CoValueId) -> bool {
        match self.values.get(&id) {
            Some(copy) => !copy.is_streaming() && self.truth.has_all(id, Some(copy)),
            None => self.absent.contains(&id),
        }
    }

    fn hear(&mut self, message: Message) -> Result<Option<Message>> {
        match message {
            Message::Content(content) => {
                self.ingest(&content)?;
                let state = self.values[&content.id].known_state();
                let known = Known { state, is_correction: false, as_dependency_of: None };
                Ok(Some(Message::Known(known)))
            }
            Message::Known(known) => {
                self.truth.acknowledge(&known.state)?;
                if !known.state.header {
                    self.absent.insert(known.state.id);
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Adds content. All of it must verify.
    fn ingest(&mut self, content: &Content) -> Result<()> {
        let id = content.id;
        ensure!(content.malformed.is_empty(), "{id}: malformed sessions");
        let ingested = if let Some(copy) = self.values.get_mut(&id) {
            copy.ingest(content, self.truth)?
        } else {
            let (copy, ingested) = CoValue::from_content(content, self.truth)?;
            self.values.insert(id, copy);
            ingested
        };
        if let Some((session, error)) = ingested.refused().next() {
            anyhow::bail!("{id} {session}: the served content does not verify: {error}");
        }
        if let (Some(until), Some(copy)) = (&content.expect_content_until, self.values.get_mut(&id))
        {
            copy.expect(until);
        }
        Ok(())
    }
}

fn content(
    id: CoValueId,
    header: Option<downbeat_protocol::Header>,
    own: &downbeat_protocol::Header,
    sessions: Vec<SessionContent>,
) -> Content {
    Content {
        id,
        header,
        priority: own.priority(),
        sessions,
        malformed: Vec::new(),
        expect_content_until: None,
    }
}

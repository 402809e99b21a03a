//! A CoValue in memory: its header and logs.

use std::collections::BTreeMap;

use downbeat_crypto::{SignerSecret, VerifyError, VerifyingKey, header_id};
use downbeat_protocol::{
    CoValueId, Content, Header, KnownState, Owner, SessionContent, SessionCounts, SessionId,
    Signature, Transaction,
};

use crate::delete;
use crate::ingest::{AppendError, Directory, IngestError, Ingested, SessionError};
use crate::known_state;
use crate::pieces;
use crate::session_log::{LogError, SessionLog};

/// A CoValue with its whole, verified content.
///
/// It holds the header, whose hash is the id, and the logs of the sessions, which signatures
/// cover. It does not interpret transactions and does not check whether their authors had the
/// right to make them: only clients can decrypt them.
///
/// ```
/// use downbeat_core::CoValue;
/// use downbeat_crypto::{AgentSecret, random_session_id};
/// use downbeat_protocol::{CoValueId, Header, Limits, Owner, Transaction};
///
/// let header = r#"{"meta":null,"ruleset":{"type":"unsafeAllowAll"},"type":"comap","uniqueness":"z1"}"#;
/// let mut map = CoValue::new(Header::parse(&header.into(), &Limits::default())?);
///
/// let secret = AgentSecret::generate()?;
/// let session = random_session_id(&Owner::Agent(secret.agent()))?;
/// let set = Transaction::trusting(r#"[{"key":"a","op":"set","value":1}]"#, 1_700_000_000_000, None);
/// map.append(&session, set, secret.signer_secret())?;
///
/// // A peer that has nothing receives all content and verifies it.
/// let pieces = map.content_since(None);
/// let (copy, ingested) = CoValue::from_content(&pieces[0], &|_: CoValueId| None)?;
/// assert_eq!(ingested.refused().count(), 0);
/// assert_eq!(copy.known_state(), map.known_state());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CoValue {
    id: CoValueId,
    header: Header,
    /// In the order in which the sessions became known, which decides how content is cut.
    logs: Vec<Keyed>,
    positions: BTreeMap<SessionId, usize>,
    expected: SessionCounts,
    deleted: bool,
}

/// A log with the key of its session's agent, once the key has been looked up.
#[derive(Debug, Clone)]
struct Keyed {
    log: SessionLog,
    key: Option<VerifyingKey>,
}

impl CoValue {
    /// A CoValue with this header and without transactions.
    pub fn new(header: Header) -> Self {
        Self {
            id: header_id(&header),
            header,
            logs: Vec::new(),
            positions: BTreeMap::new(),
            expected: SessionCounts::new(),
            deleted: false,
        }
    }

    /// Creates the CoValue from a first content message. Also returns the result of each session.
    pub fn from_content(
        content: &Content,
        directory: &impl Directory,
    ) -> Result<(Self, Ingested), IngestError> {
        let header = content.header.clone().ok_or(IngestError::NoHeader(content.id))?;
        let mut value = Self::new(header);
        if value.id != content.id {
            return Err(IngestError::HeaderMismatch { id: content.id, actual: value.id });
        }
        let ingested = value.ingest(content, directory)?;
        Ok((value, ingested))
    }

    /// Verifies a content message and adds its new transactions.
    ///
    /// The header in the message is ignored. The caller reports sessions that the decoder found
    /// malformed ([`Content::malformed`]). `expectContentUntil` has no effect, because a server
    /// does not trust clients with it: see [`Self::expect`].
    pub fn ingest(
        &mut self,
        content: &Content,
        directory: &impl Directory,
    ) -> Result<Ingested, IngestError> {
        if content.id != self.id {
            return Err(IngestError::OtherCoValue(content.id));
        }
        let mut ingested = Ingested::default();
        for run in &content.sessions {
            let result = self.ingest_run(run, directory);
            ingested.sessions.push((run.session.clone(), result));
        }
        Ok(ingested)
    }

    /// Adds and signs a new transaction, and returns its signature.
    ///
    /// `secret` is the secret of the agent or account that owns the session. It is checked for
    /// agents only. A delete session takes the transaction of [`delete::transaction`]; whether the
    /// author may delete the CoValue is not checked.
    pub fn append(
        &mut self,
        session: &SessionId,
        transaction: Transaction,
        secret: &SignerSecret,
    ) -> Result<Signature, AppendError> {
        if let Owner::Agent(agent) = session.owner()
            && agent.signer() != secret.signer()
        {
            return Err(AppendError::WrongSigner(agent.clone()));
        }
        if self.deleted {
            return Err(AppendError::Deleted);
        }
        let have = self.session(session).map_or(0, SessionLog::len);
        let new = std::slice::from_ref(&transaction);
        let claim = delete::claim(self.id, &self.header, session, have, new)?;
        let signature = self.log_mut(session).append(transaction, secret);
        if claim.is_some() {
            self.mark_deleted();
        }
        Ok(signature)
    }

    /// The content messages for a peer with the state `known`; an empty list if it lacks nothing.
    /// `None` stands for a peer without this CoValue.
    ///
    /// The first message has the header if the peer lacks it. If there are several messages, or
    /// more content is expected ([`Self::expect`]), it also has the final counts. Logs are cut at
    /// [`SessionLog::checkpoints`]; small logs share a message.
    pub fn content_since(&self, known: Option<&KnownState>) -> Vec<Content> {
        let counts = known.map(|known| &known.sessions);
        let mut messages: Vec<_> = pieces::cut(self.sessions(), counts)
            .into_iter()
            .map(|sessions| Content {
                id: self.id,
                header: None,
                priority: self.header.priority(),
                sessions,
                malformed: Vec::new(),
                expect_content_until: None,
            })
            .collect();
        let is_several = messages.len() > 1;
        if let Some(first) = messages.first_mut() {
            if !known.is_some_and(|known| known.header) {
                first.header = Some(self.header.clone());
            }
            if is_several || self.is_streaming() {
                let mut end = self.known_state().sessions;
                known_state::merge_counts(&mut end, &self.expected);
                first.expect_content_until = Some(match counts {
                    Some(counts) => known_state::missing(&end, counts),
                    None => end,
                });
            }
        }
        messages.retain(|message| message.header.is_some() || !message.sessions.is_empty());
        messages
    }

    /// The known state. A deleted CoValue has its header and the delete sessions only.
    pub fn known_state(&self) -> KnownState {
        let sessions = self.sessions().map(|log| (log.session().clone(), log.len())).collect();
        KnownState { id: self.id, header: true, sessions }
    }

    /// The id.
    pub fn id(&self) -> CoValueId {
        self.id
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The log of a session, if it has one.
    pub fn session(&self, session: &SessionId) -> Option<&SessionLog> {
        let position = self.positions.get(session)?;
        self.logs.get(*position).map(|keyed| &keyed.log)
    }

    /// The logs, in the order in which their sessions became known.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = &SessionLog> {
        self.logs.iter().map(|keyed| &keyed.log)
    }

    /// Whether the CoValue is deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Announces content up to these counts, as a trusted source does: `expectContentUntil` from
    /// an upstream server or a storage. Several announcements are merged.
    pub fn expect(&mut self, until: &SessionCounts) {
        if !self.deleted {
            known_state::merge_counts(&mut self.expected, until);
        }
    }

    /// Whether announced content is still missing.
    pub fn is_streaming(&self) -> bool {
        !self.expected.is_empty()
            && !known_state::is_subset(&self.expected, &self.known_state().sessions)
    }

    fn ingest_run(
        &mut self,
        run: &SessionContent,
        directory: &impl Directory,
    ) -> Result<u64, SessionError> {
        if self.deleted && !run.session.is_delete() {
            return Err(SessionError::Deleted);
        }
        // A new log is kept only if it receives a transaction.
        let mut fresh = None;
        let position = self.positions.get(&run.session);
        let keyed = match position.and_then(|position| self.logs.get_mut(*position)) {
            Some(keyed) => keyed,
            None => fresh.insert(Keyed { log: SessionLog::new(run.session.clone()), key: None }),
        };
        let new = keyed.log.new_part(run)?;
        if new.is_empty() {
            return Ok(0);
        }
        let claim = delete::claim(self.id, &self.header, &run.session, keyed.log.len(), new)?;
        let key = match &keyed.key {
            Some(key) => key,
            None => keyed.key.insert(verifying_key(self.id, &self.header, run, directory)?),
        };
        if let Some(claim) = &claim {
            directory.may_delete(claim)?;
        }
        let added = keyed.log.extend(run, key)?;
        if let Some(keyed) = fresh {
            self.insert(keyed);
        }
        if claim.is_some() {
            self.mark_deleted();
        }
        Ok(added)
    }

    fn log_mut(&mut self, session: &SessionId) -> &mut SessionLog {
        let position = match self.positions.get(session) {
            Some(position) => *position,
            None => self.insert(Keyed { log: SessionLog::new(session.clone()), key: None }),
        };
        &mut self.logs[position].log
    }

    fn insert(&mut self, keyed: Keyed) -> usize {
        let position = self.logs.len();
        self.positions.insert(keyed.log.session().clone(), position);
        self.logs.push(keyed);
        position
    }

    fn mark_deleted(&mut self) {
        self.deleted = true;
        self.expected = SessionCounts::new();
        self.positions.clear();
        for keyed in std::mem::take(&mut self.logs) {
            if keyed.log.session().is_delete() {
                self.insert(keyed);
            }
        }
    }
}

/// The key that verifies a session's log.
fn verifying_key(
    id: CoValueId,
    header: &Header,
    run: &SessionContent,
    directory: &impl Directory,
) -> Result<VerifyingKey, SessionError> {
    let signer = match run.session.owner() {
        Owner::Agent(agent) => agent.signer(),
        // An account signs for itself with the agent in its header.
        Owner::Account(account) if *account == id => {
            header.account_agent().ok_or(SessionError::UnknownAccount(id))?.signer()
        }
        Owner::Account(account) => {
            directory.agent(*account).ok_or(SessionError::UnknownAccount(*account))?.signer()
        }
    };
    VerifyingKey::new(signer).map_err(|error| LogError::Signature(VerifyError::from(error)).into())
}

//! An open CoValue.

use std::time::Duration;

use downbeat_core::delete::{Claim, DeleteError};
use downbeat_core::{CoValue, Directory, IngestError, SessionLog, known_state};
use downbeat_crypto::SignerSecret;
use downbeat_protocol::{
    AgentId, CoValueId, Content, Known, KnownState, Message, SessionCounts, SessionId, Transaction,
};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::line::{Line, Request};
use super::{Local, LocalError, state_of};

/// A CoValue that the program has open; from [`Local::create`] and [`Local::load`].
///
/// It holds the whole content in memory, and stays as it is until one of its methods is called:
/// what others write waits with the node. Dropping it closes the CoValue. What has been written is
/// with the node then and is stored, but [`Self::stored`] is the way to know.
///
/// All methods can be dropped before they return. Only [`Self::append`] is not simply called again
/// then: its transactions are part of the CoValue from the first poll on, and what was not given to
/// the node goes out with the next call of any method.
pub struct LocalValue {
    local: Local,
    line: Line,
    value: CoValue,
    /// What the node has, of what is here.
    shared: KnownState,
    /// What the node has said that it has stored.
    durable: KnownState,
    /// What has been written here.
    written: SessionCounts,
    /// Answers to the node that have not been sent.
    answers: Vec<Message>,
    accounts: Accounts,
}

impl LocalValue {
    pub(super) async fn create(
        local: Local,
        line: Line,
        value: CoValue,
    ) -> Result<Self, LocalError> {
        let nothing = KnownState::empty(value.id());
        let mut created = Self::new(local, line, value, nothing);
        created.send().await?;
        Ok(created)
    }

    pub(super) async fn load(
        local: Local,
        mut line: Line,
        id: CoValueId,
    ) -> Result<Self, LocalError> {
        let mut request = Request::send(&mut line, KnownState::empty(id)).await?;
        let mut accounts = Accounts::default();
        let first = loop {
            match request.next(&mut line).await? {
                Message::Content(content) if content.id == id => break content,
                Message::Content(content) => accounts.add(&content),
                _ => {}
            }
        };
        let header = first.header.clone().ok_or(IngestError::NoHeader(id))?;
        let known = KnownState { header: true, ..KnownState::empty(id) };
        let mut loaded = Self::new(local, line, CoValue::new(header), known.clone());
        loaded.durable = known;
        loaded.accounts = accounts;
        loaded.ingest(&first)?;
        while loaded.value.is_streaming() {
            loaded.step().await?;
        }
        Ok(loaded)
    }

    /// Adds transactions to a session, signs them, and gives them to the node. Private ones are
    /// encrypted by the caller ([`Transaction::private`]).
    ///
    /// Only this program may write to the session. `secret` is that of the
    /// agent, or of the account, whose session it is; an account must be with the node.
    ///
    /// Waits while the node has 8 MiB in its care that it has not stored. If one transaction cannot
    /// be added, those before it are, and none after it.
    pub async fn append(
        &mut self,
        session: &SessionId,
        transactions: impl IntoIterator<Item = Transaction>,
        secret: &SignerSecret,
    ) -> Result<(), LocalError> {
        let mut added = Ok(());
        for transaction in transactions {
            added = self.value.append(session, transaction, secret).map(|_| ());
            if added.is_err() {
                break;
            }
        }
        self.written.set(session, self.value.session(session).map_or(0, SessionLog::len));
        self.send().await?;
        Ok(added?)
    }

    /// Waits until the node has stored everything that was written here, the header included.
    /// That is durable, unless the storage was told to be more relaxed.
    ///
    /// The node reports positions in a session, so this relies on a single writer: a
    /// session that was forked is refused ([`LocalError::Rejected`]), but perhaps after this.
    ///
    /// [`LocalError::NotAcknowledged`] if that is not so `within` this time.
    pub async fn stored(&mut self, within: Duration) -> Result<(), LocalError> {
        let id = self.id();
        let end = Instant::now() + within;
        while !self.durable.header || !known_state::is_subset(&self.written, &self.durable.sessions)
        {
            match tokio::time::timeout_at(end, self.step()).await {
                Ok(step) => step?,
                Err(_) => return Err(LocalError::NotAcknowledged(id, within)),
            };
        }
        Ok(())
    }

    /// Waits until every upstream that the CoValue is synced with has acknowledged everything
    /// that is here: what [`Local::synced`] says of this CoValue.
    pub async fn synced(&mut self, within: Duration) -> Result<(), LocalError> {
        let id = self.id();
        let end = tokio::time::sleep(within);
        tokio::pin!(end);
        self.send().await?;
        let mut answer = self.local.ask_synced(self.value.known_state()).await?;
        loop {
            tokio::select! {
                answer = &mut answer => return answer.map_err(|_| LocalError::ShutDown),
                () = &mut end => return Err(LocalError::NotAcknowledged(id, within)),
                step = self.step() => { step?; }
            }
        }
    }

    /// Waits for what others write, and takes it in. Returns the number of new transactions.
    pub async fn changed(&mut self) -> Result<u64, LocalError> {
        loop {
            let added = self.step().await?;
            if added > 0 {
                return Ok(added);
            }
        }
    }

    /// The CoValue as it is here.
    pub fn content(&self) -> &CoValue {
        &self.value
    }

    /// The id.
    pub fn id(&self) -> CoValueId {
        self.value.id()
    }

    fn new(local: Local, line: Line, value: CoValue, shared: KnownState) -> Self {
        let durable = KnownState::empty(value.id());
        Self {
            local,
            line,
            value,
            shared,
            durable,
            written: SessionCounts::new(),
            answers: Vec::new(),
            accounts: Accounts::default(),
        }
    }

    /// Gives the node what it lacks, and the answers that it is owed.
    async fn send(&mut self) -> Result<(), LocalError> {
        if !self.answers.is_empty() {
            self.line.send(&self.answers).await?;
            self.answers.clear();
        }
        let lacks = self.value.content_since(Some(&self.shared));
        if !lacks.is_empty() {
            let messages: Vec<_> = lacks.into_iter().map(Message::Content).collect();
            self.line.send(&messages).await?;
            self.shared = self.value.known_state();
        }
        Ok(())
    }

    /// Takes one message of the node in. Returns the number of transactions that it brought.
    async fn step(&mut self) -> Result<u64, LocalError> {
        self.send().await?;
        let message = self.line.next().await?;
        match message {
            Message::Content(content) if content.id == self.id() => return self.ingest(&content),
            Message::Content(content) => self.accounts.add(&content),
            Message::Known(known) if known.state.id == self.id() => self.acknowledged(known),
            // The node lacks more than it was believed to lack.
            Message::Load(state) if state.id == self.id() => self.shared = state,
            // A dependency, which is not here.
            Message::Load(state) => self.answers.push(Message::Known(Known {
                state: KnownState::empty(state.id),
                is_correction: false,
                as_dependency_of: None,
            })),
            _ => {}
        }
        Ok(0)
    }

    fn acknowledged(&mut self, known: Known) {
        let Known { state, is_correction, .. } = known;
        self.durable.header |= state.header;
        known_state::merge_counts(&mut self.durable.sessions, &state.sessions);
        if is_correction {
            self.shared = state;
        }
    }

    fn ingest(&mut self, content: &Content) -> Result<u64, LocalError> {
        let ingested = self.value.ingest(content, &self.accounts)?;
        if let Some(until) = &content.expect_content_until {
            self.value.expect(until);
        }
        let added = ingested.added();
        for (session, result) in ingested.sessions {
            if let Err(source) = result {
                return Err(LocalError::OutOfStep { session, source: Box::new(source) });
            }
        }
        known_state::merge_counts(&mut self.shared.sessions, &state_of(content).sessions);
        Ok(added)
    }
}

/// The agents of accounts that have come as dependencies. The right to delete has been checked by
/// the node to be allowed to.
#[derive(Default)]
struct Accounts(FxHashMap<CoValueId, AgentId>);

impl Accounts {
    fn add(&mut self, content: &Content) {
        let agent = content.header.as_ref().and_then(|header| header.account_agent());
        if let Some(agent) = agent {
            self.0.insert(content.id, agent.clone());
        }
    }
}

impl Directory for Accounts {
    fn agent(&self, account: CoValueId) -> Option<AgentId> {
        self.0.get(&account).cloned()
    }

    fn may_delete(&self, _claim: &Claim) -> Result<(), DeleteError> {
        Ok(())
    }
}

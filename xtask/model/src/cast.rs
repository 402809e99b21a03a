//! The fixed data of the model: one CoValue, two clients with a session each, and the transactions
//! that they write.
//!
//! Transaction `n` of a session is the same in every run, so a known state describes the content of
//! a copy completely.

use std::fmt;
use std::sync::LazyLock;

use bytes::Bytes;
use downbeat_crypto::{AgentSecret, HashChain, header_id, session_id};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Limits, Message, Owner, SessionContent,
    SessionCounts, SessionId, Transaction,
};

/// The number of clients. Each writes one session.
pub(crate) const CLIENTS: usize = 2;

/// The number of prepared transactions for each session. No scope writes more.
pub(crate) const MAX_WRITES: u8 = 4;

/// The time of all transactions, in milliseconds since the Unix epoch.
const MADE_AT: u64 = 1_700_000_000_000;

/// Transactions per session.
pub(crate) type Counts = [u8; CLIENTS];

/// The state of a copy of the CoValue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub header: bool,
    pub counts: Counts,
}

/// A run of transactions of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Run {
    pub session: usize,
    pub after: u8,
    pub end: u8,
}

/// A message, reduced to the fields that differ between messages in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Load(State),
    Known { state: State, is_correction: bool },
    Content { header: bool, runs: Vec<Run>, until: Option<Counts> },
}

/// An output of the machine that cannot occur in a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unforeseen(pub String);

impl State {
    pub(crate) fn merge(&mut self, other: Self) {
        self.header |= other.header;
        for (ours, theirs) in self.counts.iter_mut().zip(other.counts) {
            *ours = theirs.max(*ours);
        }
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        (self.header || !other.header)
            && self.counts.iter().zip(other.counts).all(|(ours, theirs)| *ours >= theirs)
    }

    pub(crate) fn to_known_state(self) -> KnownState {
        KnownState { id: CAST.id, header: self.header, sessions: to_session_counts(self.counts) }
    }
}

impl Said {
    pub(crate) fn to_message(&self) -> Message {
        match self {
            Self::Load(state) => Message::Load(state.to_known_state()),
            Self::Known { state, is_correction } => Message::Known(Known {
                state: state.to_known_state(),
                is_correction: *is_correction,
                as_dependency_of: None,
            }),
            Self::Content { header, runs, until } => Message::Content(Content {
                id: CAST.id,
                header: header.then(|| CAST.header.clone()),
                priority: CAST.header.priority(),
                sessions: runs.iter().copied().map(Run::to_content).collect(),
                malformed: Vec::new(),
                expect_content_until: until.map(to_session_counts),
            }),
        }
    }

    pub(crate) fn of_message(message: &Message) -> Result<Self, Unforeseen> {
        match message {
            Message::Load(state) => Ok(Self::Load(of_known_state(state)?)),
            Message::Known(known) => Ok(Self::Known {
                state: of_known_state(&known.state)?,
                is_correction: known.is_correction,
            }),
            // The machine sends content without runs to ask for content. The driver reads all other
            // content.
            Message::Content(content) if content.sessions.is_empty() => Self::of_content(content),
            other => Err(Unforeseen(format!("unexpected message: {other:?}"))),
        }
    }
}

impl Said {
    pub(crate) fn of_content(content: &Content) -> Result<Self, Unforeseen> {
        Ok(Self::Content {
            header: content.header.is_some(),
            runs: content.sessions.iter().map(Run::of_content).collect::<Result<_, _>>()?,
            until: content.expect_content_until.as_ref().map(of_session_counts).transpose()?,
        })
    }
}

impl Run {
    pub(crate) fn to_content(self) -> SessionContent {
        let log = &CAST.logs[self.session];
        let run = usize::from(self.after)..usize::from(self.end);
        let last_signature = log.signed[run.end.saturating_sub(1)].last_signature;
        SessionContent {
            session: log.session.clone(),
            after: u64::from(self.after),
            transactions: log.signed[run]
                .iter()
                .flat_map(|signed| signed.transactions.iter().cloned())
                .collect(),
            last_signature,
        }
    }

    pub(crate) fn of_content(content: &SessionContent) -> Result<Self, Unforeseen> {
        let session = session_number(&content.session)?;
        Ok(Self { session, after: small(content.after)?, end: small(content.end())? })
    }
}

/// The counts of the known sessions.
pub(crate) fn of_session_counts(counts: &SessionCounts) -> Result<Counts, Unforeseen> {
    let mut found = Counts::default();
    for (session, count) in counts {
        found[session_number(session)?] = small(*count)?;
    }
    Ok(found)
}

pub(crate) fn to_session_counts(counts: Counts) -> SessionCounts {
    counts
        .iter()
        .zip(&CAST.logs)
        .filter(|(count, _)| **count > 0)
        .map(|(count, log)| (log.session.clone(), u64::from(*count)))
        .collect()
}

/// The length of a transaction in bytes. All transactions have the same length.
pub(crate) fn transaction_bytes() -> usize {
    CAST.logs[0].signed[0].transactions[0].json().len()
}

pub(crate) fn id() -> CoValueId {
    CAST.id
}

pub(crate) fn header() -> &'static Header {
    &CAST.header
}

pub(crate) fn session(number: usize) -> &'static SessionId {
    &CAST.logs[number].session
}

/// The number of the session with an id.
pub(crate) fn session_number(id: &SessionId) -> Result<usize, Unforeseen> {
    CAST.logs
        .iter()
        .position(|log| log.session == *id)
        .ok_or_else(|| Unforeseen(format!("unknown session: {id}")))
}

/// The name of a client and of its session in traces.
pub(crate) fn name(client: usize) -> char {
    ['a', 'b'][client]
}

fn of_known_state(state: &KnownState) -> Result<State, Unforeseen> {
    Ok(State { header: state.header, counts: of_session_counts(&state.sessions)? })
}

fn small(count: u64) -> Result<u8, Unforeseen> {
    u8::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_WRITES)
        .ok_or_else(|| Unforeseen(format!("count beyond all written transactions: {count}")))
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("nothing");
        }
        f.write_str(if self.header { "header" } else { "no header" })?;
        write_counts(f, self.counts)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}+{}", name(self.session), self.after, self.end - self.after)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(state) => write!(f, "LOAD {state}"),
            Self::Known { state, is_correction: false } => write!(f, "KNOWN {state}"),
            Self::Known { state, is_correction: true } => write!(f, "KNOWN CORRECTION {state}"),
            Self::Content { header, runs, until } => {
                f.write_str(if *header { "CONTENT header" } else { "CONTENT" })?;
                for run in runs {
                    write!(f, " {run}")?;
                }
                if let Some(until) = until {
                    f.write_str(" until")?;
                    write_counts(f, *until)?;
                }
                Ok(())
            }
        }
    }
}

fn write_counts(f: &mut fmt::Formatter<'_>, counts: Counts) -> fmt::Result {
    for (session, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        write!(f, " {}:{count}", name(session))?;
    }
    Ok(())
}

/// The fixed data.
struct Cast {
    id: CoValueId,
    header: Header,
    logs: [Log; CLIENTS],
}

/// A session, with a signature for each transaction.
struct Log {
    session: SessionId,
    signed: Vec<SessionContent>,
}

/// The CoValue is a binary stream, so that the machine sends it in pieces. Its sessions belong to
/// agents, so that it has no dependencies.
static CAST: LazyLock<Cast> = LazyLock::new(|| {
    let json = r#"{"meta":{"type":"binary"},"ruleset":{"type":"unsafeAllowAll"},"type":"costream","uniqueness":"zmodel"}"#;
    let header = Header::parse(&Bytes::from_static(json.as_bytes()), &Limits::default())
        .expect("the header is well formed");
    Cast { id: header_id(&header), header, logs: [Log::new(1), Log::new(2)] }
});

impl Log {
    fn new(seed: u8) -> Self {
        let secret = AgentSecret::from_secret_seed(&[seed; 32]);
        let session = session_id(&Owner::Agent(secret.agent()), [seed; 8]);
        let mut chain = HashChain::new();
        let signed = (0..MAX_WRITES)
            .map(|after| {
                let transaction = Transaction::trusting(&format!("[{after}]"), MADE_AT, None);
                chain.append(transaction.json());
                SessionContent {
                    session: session.clone(),
                    after: u64::from(after),
                    transactions: vec![transaction],
                    last_signature: secret.signer_secret().sign_chain(&chain),
                }
            })
            .collect();
        Self { session, signed }
    }
}

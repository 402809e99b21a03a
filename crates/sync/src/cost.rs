//! The account of what peers cost: the bytes that the machine keeps for them, and the work that
//! their messages cause.
//!
//! All credits, rates and bounds on memory are drawn from here, so that each input costs its sender
//! what it costs us. The figures are measured on 64-bit systems and rounded up. They are not
//! covered by semantic versioning, because they follow the machine's structures.

use downbeat_protocol::{Content, Header, Message, SessionContent, SessionCounts};

/// Sessions of a known state that cost as much as a small message: reading one takes some 0.2 µs,
/// and handling a small message 10 µs.
const SESSIONS_PER_WORK: usize = 64;

/// Bytes of content that cost as much as a small message: parsing and hashing them takes 60 µs.
const BYTES_PER_WORK: u64 = 64 << 10;

/// Bytes for a content message beside its header and runs: the message itself, its place in queues
/// and the acknowledgement that it gets.
const MESSAGE_BYTES: u64 = 512;

/// Bytes for a run beside its transactions: the session's id, the signature, the list of
/// transactions, the job for the verifier, the session's pipeline and the expected acknowledgement.
const RUN_BYTES: u64 = 1_024;

/// Bytes for a transaction beside its JSON: the decoded form.
const TRANSACTION_BYTES: u64 = 64;

/// Bytes for a header beside its JSON: the decoded form.
const HEADER_BYTES: u64 = 384;

/// Bytes for a subscription: its state, its places in the tables of the peer and of the CoValue,
/// and in the peer's queues. The counts are those of the CoValue in most cases.
pub const SUBSCRIPTION_BYTES: u64 = 256;

/// Bytes for a session that a peer claims with another count than ours. The counts that the peer
/// will have share it. Each claim with any such session costs as much as one more.
pub const CLAIMED_SESSION_BYTES: u64 = 128;

/// Bytes for an entry of a CoValue beside its header, sessions and dependencies.
const ENTRY_BYTES: u64 = 640;

/// Bytes for a session in the counts of a CoValue.
const SESSION_BYTES: u64 = 128;

/// Bytes for a dependency of a CoValue: in the list, and in the set beside it.
const DEPENDENCY_BYTES: u64 = 96;

/// Bytes for a dependency that held content waits for: in both CoValues, and the timer.
pub(crate) const AWAITED_BYTES: u64 = 256;

/// Bytes for a hash chain.
pub const CHAIN_BYTES: u64 = 2_304;

/// Bytes for a reconcile batch beside its id.
const BATCH_BYTES: u64 = 128;

/// Bytes for a CoValue of a reconcile batch.
const BATCH_ENTRY_BYTES: u64 = 64;

/// The number of small messages that a message counts as in its sender's rates.
///
/// - LOAD and KNOWN: one, and one for every 64 sessions.
/// - Content: one for each session, whose signature is checked, and one for every 64 KiB. The
///   look-ups of its dependencies are not counted, because the machine asks for many of them only
///   after it has found as many others.
/// - Reconcile: one for each CoValue, which is looked up.
pub fn work(message: &Message) -> u64 {
    let units = match message {
        Message::Load(state) => sessions_work(&state.sessions),
        Message::Known(known) => sessions_work(&known.state.sessions),
        Message::Content(content) => content_work(content),
        Message::Reconcile(reconcile) => reconcile.values.len() as u64,
        Message::Done(_) | Message::ReconcileAck(_) | Message::Unknown(_) => 1,
    };
    units.max(1)
}

fn sessions_work(sessions: &SessionCounts) -> u64 {
    1 + (sessions.len() / SESSIONS_PER_WORK) as u64
}

fn content_work(content: &Content) -> u64 {
    let bytes: u64 = content.sessions.iter().map(SessionContent::json_len).sum();
    let header = content.header.as_ref().map_or(0, |header| header.json().len() as u64);
    let announced = content.expect_content_until.as_ref().map_or(0, SessionCounts::len);
    let sessions = content.sessions.len() + content.malformed.len();
    sessions as u64
        + (announced / SESSIONS_PER_WORK) as u64
        + bytes.saturating_add(header) / BYTES_PER_WORK
}

/// The credit of a content message: the bytes that its decoded form takes until it is stored. A
/// runtime that limits the content in flight per peer takes this much credit for each message, and
/// gets it back with [`Action::Release`](crate::Action::Release).
pub fn content_credit(content: &Content) -> u64 {
    message_credit(content) + content.sessions.iter().map(run_credit).sum::<u64>()
}

/// The part of a message's credit that does not belong to its runs.
fn message_credit(content: &Content) -> u64 {
    let announced = content.expect_content_until.as_ref().map_or(0, SessionCounts::len);
    let malformed: usize = content.malformed.iter().map(|one| one.session.len() + 128).sum();
    MESSAGE_BYTES
        + content.header.as_ref().map_or(0, header_bytes)
        + announced as u64 * SESSION_BYTES
        + malformed as u64
}

/// The part of a message's credit that belongs to one run.
pub(crate) fn run_credit(run: &SessionContent) -> u64 {
    RUN_BYTES + run.json_len() + run.transactions.len() as u64 * TRANSACTION_BYTES
}

/// Bytes for a header: its JSON, the JSON that is hashed if it differs, and the decoded form.
pub(crate) fn header_bytes(header: &Header) -> u64 {
    let (json, hashed) = (header.json(), header.hashed_json());
    let hashed = if hashed.as_ptr() == json.as_ptr() { 0 } else { hashed.len() };
    HEADER_BYTES + (json.len() + hashed) as u64
}

/// Bytes for an entry of a CoValue in memory, without the content that is in progress.
pub(crate) fn entry_bytes(header: Option<&Header>, sessions: usize, dependencies: usize) -> u64 {
    ENTRY_BYTES
        + header.map_or(0, header_bytes)
        + sessions as u64 * SESSION_BYTES
        + dependencies as u64 * DEPENDENCY_BYTES
}

/// Bytes for a reconcile batch that begins, with its id and CoValues.
pub(crate) fn batch_bytes(id: &str, values: usize) -> u64 {
    BATCH_BYTES + id.len() as u64 + values as u64 * BATCH_ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::{
        CoValueId, Known, KnownState, Priority, Reconcile, SessionId, ShortHash, Signature,
        Transaction,
    };

    use super::*;

    fn id() -> CoValueId {
        CoValueId::from_short_hash(&[1; 19])
    }

    fn session(number: usize) -> SessionId {
        SessionId::parse(&format!("co_z1_session_z{}", "a".repeat(1 + number % 200))).unwrap()
    }

    fn counts(count: u64) -> SessionCounts {
        (0..count)
            .map(|number| {
                let digits = bs58_digits(number);
                (SessionId::parse(&format!("co_z1_session_z{digits}")).unwrap(), 1)
            })
            .collect()
    }

    /// Different base58 digits for each number.
    fn bs58_digits(number: u64) -> String {
        format!("{number:b}").replace('0', "a")
    }

    fn content(runs: usize, text: &str) -> Content {
        let run = |number| SessionContent {
            session: session(number),
            after: 0,
            transactions: vec![Transaction::trusting(text, 1, None)],
            last_signature: Signature::from_bytes(&[0; 64]),
        };
        Content {
            id: id(),
            header: None,
            priority: Priority::Medium,
            sessions: (0..runs).map(run).collect(),
            malformed: Vec::new(),
            expect_content_until: None,
        }
    }

    #[test]
    fn ordinary_messages_count_as_one() {
        let few = KnownState { id: id(), header: true, sessions: counts(10) };
        let known = Known { state: few.clone(), is_correction: false, as_dependency_of: None };
        for message in [
            Message::Load(few),
            Message::Known(known),
            Message::Content(content(0, "")),
            Message::Content(content(1, "[1]")),
            Message::ReconcileAck(String::new()),
        ] {
            assert_eq!(work(&message), 1, "{message:?}");
        }
    }

    #[test]
    fn large_messages_count_as_what_is_in_them() {
        let many = KnownState { id: id(), header: true, sessions: counts(6_400) };
        assert_eq!(work(&Message::Load(many)), 101);
        assert_eq!(work(&Message::Content(content(200, "[1]"))), 200);
        let text = format!("[\"{}\"]", "x".repeat(10 << 16));
        assert_eq!(work(&Message::Content(content(1, &text))), 11);
        let values = vec![(id(), ShortHash::from_bytes([0; 19])); 100];
        let reconcile = Reconcile { id: "b".to_owned(), values };
        assert_eq!(work(&Message::Reconcile(reconcile)), 100);
    }

    #[test]
    fn credit_covers_the_decoded_form() {
        let one = content(1, "[1]");
        let decoded = size_of::<SessionContent>() + size_of::<Transaction>();
        assert!(content_credit(&one) > decoded as u64 + one.sessions[0].json_len());
    }
}

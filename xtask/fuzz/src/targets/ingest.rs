//! Ingesting decoded content into CoValues, message by message, as a server does.

use std::collections::BTreeMap;

use bytes::Bytes;
use downbeat_core::roles::{Group, Member};
use downbeat_core::{
    CoValue, Directory, Ingested, LogError, Roles, SessionError, SessionLog, dependencies,
};
use downbeat_crypto::{HashChain, VerifyingKey, header_id};
use downbeat_protocol::{
    CoValueId, Content, Header, KnownState, Limits, Message, Owner, SessionId, Transaction, json,
};

use crate::features::Features;
use crate::memory;
use crate::people::{Accounts, alice, signer_of};
use crate::rng::Rng;

/// The maximum number of ingested messages of a frame, to keep a case short.
const MAX_MESSAGES: usize = 40;

type Values = BTreeMap<CoValueId, CoValue>;

pub(crate) fn run(input: &[u8]) -> Features {
    let mut features = Features::default();
    let input = Bytes::copy_from_slice(input);
    let mut values = Values::new();
    for content in contents(&input) {
        note_shape(&mut features, &content);
        dependencies::of_sessions(content.sessions.iter().map(|run| &run.session));
        match values.get(&content.id) {
            Some(value) => {
                let value = check_ingest(value, &content, input.len(), &mut features);
                values.insert(content.id, value);
            }
            None => {
                if let Some(value) = check_first(&content, input.len(), &mut features) {
                    values.insert(content.id, value);
                }
            }
        }
    }
    features.amount("values", values.len());
    for value in values.values() {
        features.amount("logs", value.sessions().len());
        check_signatures(value);
        check_copy(value);
    }
    check_roles(&values, &mut features);
    features
}

fn note_shape(features: &mut Features, content: &Content) {
    let header = content.header.as_ref();
    let ruleset = header.map(|header| std::mem::discriminant(header.ruleset()));
    features.note(("header", ruleset, header.map(|header| header.account_agent().is_some())));
    features.note(header.and_then(Header::source).is_some());
    features.amount("sessions", content.sessions.len());
    for malformed in &content.malformed {
        features.error("malformed", &malformed.error);
    }
    for run in &content.sessions {
        features.amount("transactions", run.transactions.len());
        features.amount("after", usize::try_from(run.after).unwrap_or(usize::MAX));
        features.note(("owner", run.session.account().is_some(), run.session.is_delete()));
        for transaction in &run.transactions {
            let changes = transaction.changes().unwrap_or_default();
            features.note((transaction.privacy(), transaction.meta().is_some()));
            features.amount("changes", changes.len());
            for word in ["parent_", "admin", "everyone", "revoked", "\\u", "extend"] {
                features.note((word, changes.matches(word).count().min(4)));
            }
        }
    }
}

fn contents(input: &Bytes) -> Vec<Content> {
    let messages = json::decode_frame(input, &Limits::default()).unwrap_or_default().messages;
    messages
        .into_iter()
        .take(MAX_MESSAGES)
        .filter_map(|message| match message {
            Message::Content(content) => Some(content),
            _ => None,
        })
        .collect()
}

fn check_first(content: &Content, input_len: usize, features: &mut Features) -> Option<CoValue> {
    match memory::bounded(input_len, || CoValue::from_content(content, &Accounts)) {
        Ok((value, ingested)) => {
            assert_eq!(header_id(value.header()), content.id, "the header has another id");
            assert_eq!(content.header.as_ref(), Some(value.header()));
            let empty = CoValue::new(value.header().clone());
            check_outcome(&empty, &value, content, &ingested, features);
            Some(value)
        }
        Err(error) => {
            features.note(("first", std::mem::discriminant(&error)));
            let fits =
                content.header.as_ref().is_some_and(|header| header_id(header) == content.id);
            assert!(!fits, "valid content is refused: {error}");
            None
        }
    }
}

fn check_ingest(
    before: &CoValue,
    content: &Content,
    input_len: usize,
    features: &mut Features,
) -> CoValue {
    let mut value = before.clone();
    let ingested = memory::bounded(input_len, || value.ingest(content, &Accounts))
        .expect("a whole message is refused only if it belongs to another CoValue");
    check_outcome(before, &value, content, &ingested, features);
    // Ingesting the same content again changes nothing.
    let mut again = value.clone();
    let repeated = again.ingest(content, &Accounts).expect("the id still fits");
    if repeated.refused().count() == 0 {
        assert_eq!(repeated.added(), 0, "the same content is added twice");
    }
    value
}

/// Checks that accepted transactions are present, and that refused ones changed nothing.
fn check_outcome(
    before: &CoValue,
    after: &CoValue,
    content: &Content,
    ingested: &Ingested,
    features: &mut Features,
) {
    assert_eq!(ingested.sessions.len(), content.sessions.len());
    for (run, (session, result)) in content.sessions.iter().zip(&ingested.sessions) {
        assert_eq!(&run.session, session);
        let (old, new) = (log(before, session), log(after, session));
        match result {
            Ok(added) => {
                features.amount("added", usize::try_from(*added).unwrap_or(usize::MAX));
                let dropped = after.is_deleted() && !session.is_delete();
                let is_longer = new.len() as u64 == old.len() as u64 + added;
                assert!(dropped || is_longer, "the length of the log is wrong");
                assert!(dropped || new.starts_with(old), "the log has changed");
            }
            Err(error) => {
                note_error(features, error);
                let dropped = after.is_deleted() && !session.is_delete();
                assert!(dropped || new == old, "a refused session has changed");
            }
        }
    }
    if ingested.added() == 0 {
        assert_eq!(after.known_state(), before.known_state());
        assert_eq!(after.content_since(None), before.content_since(None));
        assert_eq!(after.is_deleted(), before.is_deleted());
    }
    if after.is_deleted() {
        features.note("deleted");
        assert!(after.sessions().all(|log| log.session().is_delete()));
        let by_alice = |log: &SessionLog| log.session().account() == Some(alice().account_id());
        assert!(after.sessions().any(by_alice), "deleted without the right to delete");
    }
}

fn log<'a>(value: &'a CoValue, session: &SessionId) -> &'a [Transaction] {
    value.session(session).map(SessionLog::transactions).unwrap_or_default()
}

fn note_error(features: &mut Features, error: &SessionError) {
    let inner = match error {
        SessionError::Log(LogError::Signature(error)) => {
            format!("{:?}", std::mem::discriminant(error))
        }
        SessionError::Log(error) => format!("{:?}", std::mem::discriminant(error)),
        SessionError::Delete(error) => format!("{:?}", std::mem::discriminant(error)),
        _ => String::new(),
    };
    features.note(("refused", std::mem::discriminant(error), inner));
}

/// Checks that the owner of each session has signed the log's end and its checkpoints.
fn check_signatures(value: &CoValue) {
    for log in value.sessions() {
        let agent = match log.session().owner() {
            Owner::Agent(agent) => Some(agent.clone()),
            Owner::Account(account) if *account == value.id() => {
                value.header().account_agent().cloned()
            }
            Owner::Account(account) => Accounts.agent(*account),
        };
        let signer = agent.expect("the author is known").signer();
        let key = VerifyingKey::new(signer).expect("the key has verified signatures");
        let mut signatures: BTreeMap<u64, _> = log
            .checkpoints()
            .iter()
            .map(|checkpoint| (checkpoint.end, checkpoint.signature))
            .collect();
        signatures.insert(log.len(), log.last_signature().expect("the log is not empty"));
        let mut chain = HashChain::new();
        for (end, transaction) in (1..).zip(log.transactions()) {
            chain.append(transaction.json());
            if let Some(signature) = signatures.remove(&end) {
                key.verify_chain(&chain, &signature).expect("an unsigned transaction was accepted");
            }
        }
        assert!(signatures.is_empty(), "a signature is beyond the end of the log");
    }
}

/// Checks that a peer without the CoValue receives all content, and a peer with all content none.
fn check_copy(value: &CoValue) {
    let mut pieces = value.content_since(None).into_iter();
    let first = pieces.next().expect("the first message has the header");
    let (mut copy, ingested) =
        CoValue::from_content(&first, &Accounts).expect("our own content is accepted");
    assert_eq!(ingested.refused().count(), 0, "our own content is refused");
    for piece in pieces {
        let ingested = copy.ingest(&piece, &Accounts).expect("our own content is accepted");
        assert_eq!(ingested.refused().count(), 0, "our own content is refused");
    }
    let state = value.known_state();
    assert_eq!(copy.known_state(), state);
    assert_eq!(value.content_since(Some(&state)), []);
    let header_only = KnownState { header: true, ..KnownState::empty(value.id()) };
    assert!(value.content_since(Some(&header_only)).iter().all(|piece| piece.header.is_none()));
}

/// Checks that roles can be computed for any graph of groups.
fn check_roles(values: &Values, features: &mut Features) {
    let mut roles = Roles::default();
    let groups: Vec<&CoValue> = values.values().filter(|value| value.header().is_group()).collect();
    for group in &groups {
        let logs = group.sessions().map(|log| (log.session(), log.transactions()));
        roles.insert(Group::new(group.id(), group.header(), logs));
        for log in group.sessions() {
            dependencies::of_group_transactions(log.transactions());
        }
    }
    let members = [Member::Everyone, Member::Owner(Owner::Account(alice().account_id()))];
    for group in groups {
        for member in &members {
            for at in [None, Some(0.0), Some(1e13), Some(f64::NAN)] {
                let role = roles.role_of(group.id(), member, at).map_err(|_| ());
                features.note(("role", format!("{role:?}")));
            }
        }
    }
}

/// Signs the runs of the known authors again, and sets the id of content to the id of its header,
/// as if a client with these secrets had sent the frame.
pub(crate) fn sign(input: &mut Vec<u8>, rng: &mut Rng) {
    if rng.once_in(4) {
        return;
    }
    let bytes = Bytes::from(input.clone());
    let mut chains: BTreeMap<(CoValueId, SessionId), (u64, HashChain)> = BTreeMap::new();
    let mut moved: BTreeMap<CoValueId, CoValueId> = BTreeMap::new();
    let mut frame = Vec::new();
    for mut content in contents(&bytes) {
        if let Some(header) = &content.header {
            moved.insert(content.id, header_id(header));
        }
        content.id = moved.get(&content.id).copied().unwrap_or(content.id);
        for run in &mut content.sessions {
            let Some(secret) = signer_of(run.session.owner()) else { continue };
            let key = (content.id, run.session.clone());
            let (count, chain) = chains.entry(key).or_insert_with(|| (0, HashChain::new()));
            if !rng.once_in(8) {
                run.after = run.after.min(*count);
            }
            let known = usize::try_from(count.saturating_sub(run.after)).unwrap_or(usize::MAX);
            for transaction in run.transactions.get(known..).unwrap_or_default() {
                chain.append(transaction.json());
                *count += 1;
            }
            run.last_signature = secret.sign_chain(chain);
        }
        if !frame.is_empty() {
            frame.push(b'\n');
        }
        json::encode_message(&Message::Content(content), &mut frame);
    }
    if !frame.is_empty() {
        *input = frame;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    #[test]
    fn the_made_content_is_signed_and_is_taken() {
        let mut values = Values::new();
        for message in seeds::messages() {
            let Message::Content(content) = message else { continue };
            if let Some(value) = values.get_mut(&content.id) {
                let ingested = value.ingest(&content, &Accounts).unwrap();
                assert_eq!(ingested.refused().next(), None);
            } else {
                let (value, ingested) = CoValue::from_content(&content, &Accounts).unwrap();
                assert_eq!(ingested.refused().next(), None);
                values.insert(value.id(), value);
            }
        }
        assert!(values.values().any(CoValue::is_deleted));
    }

    #[test]
    fn content_that_was_changed_is_taken_when_it_is_signed_again() {
        let seed = seeds::json_frames().swap_remove(0);
        let mut input = String::from_utf8(seed).unwrap().replace("profile", "changed").into_bytes();
        let taken = |input: &[u8]| {
            let content = contents(&Bytes::copy_from_slice(input)).swap_remove(0);
            CoValue::from_content(&content, &Accounts).unwrap().1.added()
        };
        assert_eq!(taken(&input), 0);
        let mut rng =
            (0..100).map(|case| Rng::of_case(0, case)).find(|rng| !rng.clone().once_in(4));
        sign(&mut input, rng.as_mut().unwrap());
        assert_eq!(taken(&input), 1);
    }
}

//! Headers, transactions and identifiers.

use bytes::Bytes;
use downbeat_crypto::header_id;
use downbeat_protocol::{
    AgentId, CoValueId, Header, Limits, LongHash, Message, Owner, Privacy, Ruleset, SealerId,
    SessionId, ShortHash, Signature, SignerId, Transaction, json,
};
use serde_json::Value;

use super::model;
use crate::features::Features;
use crate::memory;

pub(crate) fn run(input: &[u8]) -> Features {
    let mut features = Features::default();
    let input = Bytes::copy_from_slice(input);
    let limits = Limits::default();
    match memory::bounded(input.len(), || Header::parse(&input, &limits)) {
        Ok(header) => {
            check_header(&header);
            features.note(("header", header.co_type() == "comap", header.priority()));
            features.note((header.restricts_deletion(), header.source().is_some()));
            features.note((std::mem::discriminant(header.ruleset()), header.json() == &input));
        }
        Err(error) => features.error("header", &error),
    }
    match memory::bounded(input.len(), || Transaction::parse(&input, &limits)) {
        Ok(transaction) => {
            check_transaction(&transaction);
            features.note((transaction.privacy(), transaction.meta().is_some()));
            features.note(("canonical", transaction.json() == &input));
            features.amount("changes", transaction.changes_len() as usize);
            features.note(transaction.changes_len() == transaction.changes_utf16_len());
        }
        Err(error) => features.error("transaction", &error),
    }
    if let Ok(text) = str::from_utf8(&input) {
        check_ids(text, &mut features);
    }
    features
}

/// Checks the rules for the parts of a decoded message.
pub(crate) fn check_message(message: &Message) {
    let Message::Content(content) = message else { return };
    content.header.iter().for_each(check_header);
    content.sessions.iter().flat_map(|run| &run.transactions).for_each(check_transaction);
}

fn check_header(header: &Header) {
    let limits = Limits::default();
    let again = Header::parse(header.json(), &limits).expect("a header can be parsed again");
    assert_eq!(&again, header, "the header changes when parsed again");
    assert_eq!(header_id(&again), header_id(header));
    assert_eq!(again.json(), header.json(), "the JSON of the header changes");
    let text = str::from_utf8(header.json()).expect("a header is UTF-8");
    let value: Value = serde_json::from_str(text).expect("a header is JSON");
    if !is_odd(&value) {
        assert_eq!(json::canonicalize(header.json(), &limits).as_ref(), Ok(header.json()));
        assert_eq!(model::canonical(text).as_deref(), Some(text), "the header is not canonical");
    }
    assert_eq!(value.pointer("/type").and_then(Value::as_str), Some(header.co_type()));
    assert_eq!(value.pointer("/meta/type").and_then(Value::as_str), header.meta_type());
    let ruleset = value.pointer("/ruleset/type").and_then(Value::as_str);
    let (kind, owner) = match header.ruleset() {
        Ruleset::Group { initial_admin } => {
            ("group", Some(("initialAdmin", initial_admin.as_str())))
        }
        Ruleset::OwnedByGroup { group } => ("ownedByGroup", Some(("group", group.as_str()))),
        Ruleset::UnsafeAllowAll => ("unsafeAllowAll", None),
    };
    assert_eq!(ruleset, Some(kind));
    if let Some((member, id)) = owner {
        assert_eq!(value.pointer(&format!("/ruleset/{member}")).and_then(Value::as_str), Some(id));
    }
    let restricts = value.pointer("/ruleset/restrictDeletion") == Some(&Value::Bool(true));
    assert_eq!(restricts, header.restricts_deletion());
    if let Some(source) = header.source() {
        assert_eq!(value.pointer("/meta/source").and_then(Value::as_str), Some(source.as_str()));
    }
}

/// Whether canonical JSON and the reference's native core write the value differently.
fn is_odd(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => number.as_i64().is_none_or(|n| n.unsigned_abs() > 1 << 53),
        Value::String(text) => text.starts_with("encrypted_U") || text.starts_with("binary_U"),
        Value::Array(elements) => elements.iter().any(is_odd),
        Value::Object(members) => {
            members.iter().any(|(name, value)| !name.is_ascii() || is_odd(value))
        }
    }
}

fn check_transaction(transaction: &Transaction) {
    let limits = Limits::default();
    let json = transaction.json();
    let again = Transaction::parse(json, &limits).expect("a transaction can be parsed again");
    assert_eq!(again.json(), json, "the transaction changes when parsed again");
    // Longer numbers do not take the fast path.
    let is_short = transaction.made_at() < 1e15;
    let shares_memory = again.json().as_ptr() == json.as_ptr();
    assert!(shares_memory || !is_short, "a canonical transaction is copied");
    let facts =
        |of: &Transaction| (of.privacy(), of.made_at(), of.changes_len(), of.changes_utf16_len());
    assert_eq!(facts(&again), facts(transaction), "the properties change when parsed again");
    let text = str::from_utf8(json).expect("a transaction is UTF-8");
    let value: Value = serde_json::from_str(text).expect("a transaction is JSON");
    let member = |name| value.get(name).and_then(Value::as_str);
    let (plain, encrypted) = (transaction.changes(), transaction.encrypted_changes());
    assert_eq!(plain.as_deref(), member("changes"));
    assert_eq!(encrypted.as_deref(), member("encryptedChanges"));
    assert_eq!(transaction.key_used().as_deref(), member("keyUsed"));
    assert_eq!(transaction.meta().as_deref(), member("meta"));
    let is_private = transaction.privacy() == Privacy::Private;
    assert_eq!(member("privacy"), Some(if is_private { "private" } else { "trusting" }));
    let changes = plain.or(encrypted).expect("a transaction has changes");
    assert_eq!(transaction.changes_len() as usize, changes.len());
    assert_eq!(transaction.changes_utf16_len() as usize, changes.encode_utf16().count());
    let made_at = transaction.made_at();
    assert!(made_at >= 0.0 && made_at.fract() == 0.0 && made_at < 18_446_744_073_709_551_616.0);
}

/// Checks that an identifier is printed as it was parsed.
fn check_ids(text: &str, features: &mut Features) {
    macro_rules! check {
        ($($type:ty),*) => {
            $(if let Ok(id) = <$type>::parse(text) {
                assert_eq!(id.to_string(), text);
                assert_eq!(<$type>::parse(&id.to_string()).as_ref(), Ok(&id));
                features.note(stringify!($type));
            })*
        };
    }
    check!(CoValueId, SessionId, AgentId, Owner, Signature);
    check!(LongHash, ShortHash, SignerId, SealerId);
    if let Ok(session) = SessionId::parse(text) {
        features.note(("delete", session.is_delete(), session.account().is_some()));
        assert!(text.starts_with(session.owner().as_str()));
    }
    if let Ok(signature) = Signature::parse(text) {
        features.note(("signature", signature.to_bytes().is_ok()));
    }
}

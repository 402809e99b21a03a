//! JSON messages, and ids that name nothing.

use std::fmt::{Display, Write as _};

use downbeat_crypto::session_id;
use downbeat_protocol::{
    CoValueId, Codec, Content, JsonCodec, KnownState, Message, Owner, SHORT_HASH_LEN, SessionId,
};
use fastrand::Rng;

/// A short hash that no CoValue has.
pub(crate) const WRONG_HASH: &str = "shortHash_z1111111111111111111";

/// The JSON of a message.
pub(crate) fn json(message: &Message) -> String {
    let mut frame = Vec::new();
    JsonCodec::default().encode(message, &mut frame);
    String::from_utf8(frame).expect("the codec writes JSON")
}

/// The JSON of a content message.
pub(crate) fn content(content: Content) -> String {
    json(&Message::Content(content))
}

/// A LOAD that claims these sessions, as JSON.
pub(crate) fn load(id: CoValueId, sessions: &str) -> String {
    let header = !sessions.is_empty();
    format!(r#"{{"action":"load","id":"{id}","header":{header},"sessions":{{{sessions}}}}}"#)
}

/// A KNOWN of these sessions, as JSON.
pub(crate) fn known(id: impl Display, sessions: &str) -> String {
    format!(r#"{{"action":"known","id":"{id}","header":true,"sessions":{{{sessions}}}}}"#)
}

/// A message with one more member, whose value is JSON.
pub(crate) fn with_member(message: &str, name: &str, value: &str) -> String {
    let (rest, _) = message.rsplit_once('}').expect("a message is an object");
    format!(r#"{rest},"{name}":{value}}}"#)
}

/// What a receiver of this content knows, and can acknowledge.
pub(crate) fn reached(content: &Content) -> KnownState {
    let ends = content.sessions.iter().map(|run| (run.session.clone(), run.end()));
    KnownState { id: content.id, header: true, sessions: ends.collect() }
}

/// A RECONCILE of these ids with this hash.
pub(crate) fn reconcile(
    batch: &str,
    ids: impl IntoIterator<Item = CoValueId>,
    hash: &str,
) -> String {
    let mut text = format!(r#"{{"action":"reconcile","id":"{batch}","values":["#);
    for (index, id) in ids.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, r#"{comma}["{id}","{hash}"]"#);
    }
    text + "]}"
}

/// The members of `sessions` for this many invented sessions, each with a count.
pub(crate) fn invented_sessions(rng: &mut Rng, count: usize) -> String {
    let owner = Owner::Account(random_id(rng));
    let mut text = String::new();
    for index in 0..count {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, r#"{comma}"{}":{}"#, random_session(rng, &owner), 1 + index % 9);
    }
    text
}

pub(crate) fn random_session(rng: &mut Rng, owner: &Owner) -> SessionId {
    session_id(owner, rng.u64(..).to_be_bytes())
}

/// The id of a CoValue that does not exist.
pub(crate) fn random_id(rng: &mut Rng) -> CoValueId {
    let mut hash = [0; SHORT_HASH_LEN];
    rng.fill(&mut hash);
    CoValueId::from_short_hash(&hash)
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::Bytes;

    use super::*;

    #[test]
    fn the_messages_are_well_formed() {
        let mut rng = Rng::with_seed(1);
        let id = random_id(&mut rng);
        let sessions = invented_sessions(&mut rng, 1);
        for text in [
            load(id, &sessions),
            load(id, ""),
            known(id, &sessions),
            reconcile("a", [id, id], WRONG_HASH),
        ] {
            let frame = JsonCodec::default().decode(&Bytes::from(text.clone())).unwrap();
            assert_eq!(frame.rejected.len(), 0, "{text}");
            assert_eq!(json(&frame.messages[0]), text);
        }
        let more = with_member(&load(id, ""), "expectContentUntil", r#"{"a":1}"#);
        assert!(more.ends_with(r#""sessions":{},"expectContentUntil":{"a":1}}"#), "{more}");
    }
}

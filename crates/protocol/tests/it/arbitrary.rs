//! Random messages and their parts.

use downbeat_protocol::{
    AgentId, CoValueId, Content, Header, Known, KnownState, Message, Owner, Ping, Priority,
    Reconcile, Ruleset, SealerId, SessionContent, SessionCounts, SessionId, ShortHash, Signature,
    SignerId, Transaction, Uniqueness, Unknown, UnknownId, UnknownKind,
};
use proptest::array::uniform32;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) fn co_value_id() -> impl Strategy<Value = CoValueId> {
    uniform19().prop_map(|hash| CoValueId::from_short_hash(&hash))
}

fn uniform19() -> impl Strategy<Value = [u8; 19]> {
    uniform32(any::<u8>()).prop_map(|bytes| bytes[..19].try_into().unwrap())
}

pub(crate) fn agent_id() -> impl Strategy<Value = AgentId> {
    (uniform32(any::<u8>()), uniform32(any::<u8>())).prop_map(|(sealer, signer)| {
        AgentId::new(SealerId::from_bytes(sealer), SignerId::from_bytes(signer))
    })
}

pub(crate) fn session_id() -> impl Strategy<Value = SessionId> {
    let owner = prop_oneof![
        4 => co_value_id().prop_map(|id| id.to_string()),
        1 => agent_id().prop_map(|id| id.to_string()),
    ];
    (owner, "[1-9A-HJ-NP-Za-km-z]{1,16}", any::<bool>()).prop_map(|(owner, random, deletes)| {
        let (kind, end) = if deletes { ("d", "$") } else { ("z", "") };
        SessionId::parse(&format!("{owner}_session_{kind}{random}{end}")).unwrap()
    })
}

pub(crate) fn signature() -> impl Strategy<Value = Signature> {
    (uniform32(any::<u8>()), uniform32(any::<u8>()))
        .prop_map(|(a, b)| Signature::from_bytes(&[a, b].concat().try_into().unwrap()))
}

/// A count that JavaScript represents exactly.
pub(crate) fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 0..1_u64 << 53]
}

/// Text with characters that need care in JSON.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        any::<String>(),
        "(encrypted_U|binary_U)?[\"\\\\/\u{0}-\u{1f}\u{7f}é\u{2028}😀]{0,10}",
    ]
}

pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
    let made_at = prop_oneof![count(), any::<u64>()];
    (text(), option::of(text()), made_at, option::of(text())).prop_map(
        |(changes, key, made_at, meta)| match key {
            Some(key) => Transaction::private(&changes, &key, made_at, meta.as_deref()),
            None => Transaction::trusting(&changes, made_at, meta.as_deref()),
        },
    )
}

fn ruleset() -> impl Strategy<Value = Ruleset> {
    prop_oneof![
        agent_id().prop_map(|id| Ruleset::Group { initial_admin: Owner::Agent(id) }),
        co_value_id().prop_map(|id| Ruleset::Group { initial_admin: Owner::Account(id) }),
        co_value_id().prop_map(|group| Ruleset::OwnedByGroup { group }),
        Just(Ruleset::UnsafeAllowAll),
    ]
}

fn uniqueness() -> impl Strategy<Value = Uniqueness> {
    prop_oneof![
        text().prop_map(Uniqueness::Text),
        any::<bool>().prop_map(Uniqueness::Bool),
        (-(1_i64 << 53)..=1 << 53).prop_map(Uniqueness::Integer),
        vec(("[ -~é😀]{1,5}", text()), 0..4).prop_map(Uniqueness::Object),
        Just(Uniqueness::Null),
    ]
}

pub(crate) fn header() -> impl Strategy<Value = Header> {
    let meta = prop_oneof![
        Just("null".to_owned()),
        (text(), any::<f64>())
            .prop_map(|(text, number)| serde_json::json!({ &text: [text, number] }).to_string()),
    ];
    (text(), ruleset(), meta, option::of(text()), uniqueness()).prop_map(
        |(co_type, ruleset, meta, created_at, uniqueness)| {
            let mut header = Header::builder(&co_type, ruleset).meta(&meta).uniqueness(uniqueness);
            if let Some(time) = created_at {
                header = header.created_at(&time);
            }
            header.build().unwrap()
        },
    )
}

pub(crate) fn counts() -> impl Strategy<Value = SessionCounts> {
    vec((session_id(), count()), 0..4).prop_map(|counts| counts.into_iter().collect())
}

pub(crate) fn known_state() -> impl Strategy<Value = KnownState> {
    (co_value_id(), any::<bool>(), counts()).prop_map(|(id, header, sessions)| KnownState {
        id,
        header,
        sessions,
    })
}

pub(crate) fn session() -> impl Strategy<Value = SessionContent> {
    (session_id(), count(), vec(transaction(), 0..4), signature()).prop_map(
        |(session, after, transactions, last_signature)| SessionContent {
            session,
            after,
            transactions,
            last_signature,
        },
    )
}

fn content() -> impl Strategy<Value = Content> {
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Medium), Just(Priority::Low)];
    (co_value_id(), option::of(header()), priority, vec(session(), 0..4), option::of(counts()))
        .prop_map(|(id, header, priority, mut sessions, expect_content_until)| {
            sessions.sort_by(|a, b| a.session.cmp(&b.session));
            sessions.dedup_by(|a, b| a.session == b.session);
            Content { id, header, priority, sessions, malformed: Vec::new(), expect_content_until }
        })
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    let value = (co_value_id(), uniform19().prop_map(ShortHash::from_bytes));
    prop_oneof![
        known_state().prop_map(Message::Load),
        (known_state(), any::<bool>(), option::of(co_value_id())).prop_map(
            |(state, is_correction, as_dependency_of)| {
                Message::Known(Known { state, is_correction, as_dependency_of })
            }
        ),
        content().prop_map(Message::Content),
        co_value_id().prop_map(Message::Done),
        (text(), vec(value, 0..4))
            .prop_map(|(id, values)| Message::Reconcile(Reconcile { id, values })),
        text().prop_map(Message::ReconcileAck),
        unknown().prop_map(Message::Unknown),
    ]
}

fn unknown() -> impl Strategy<Value = Unknown> {
    let kind = prop_oneof![
        Just(UnknownKind::Load),
        any::<bool>().prop_map(|is_correction| UnknownKind::Known { is_correction }),
        Just(UnknownKind::Content),
    ];
    (text(), kind).prop_map(|(id, kind)| {
        let id = UnknownId::new(&format!("0{id}")).expect("no id of a CoValue");
        Unknown { id, kind }
    })
}

pub(crate) fn ping() -> impl Strategy<Value = Ping> {
    (count(), text()).prop_map(|(time, dc)| Ping { time, dc })
}

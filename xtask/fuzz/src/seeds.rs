//! The first inputs: well-formed messages of every kind, with valid ids and signatures, and content
//! recorded from the reference.

use std::fs;
use std::path::{Path, PathBuf};

use downbeat_core::delete;
use downbeat_crypto::{HashChain, delete_session_id, header_id, sessions_hash};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Message, Owner, Ping, Reconcile, Ruleset,
    SessionContent, SessionCounts, SessionId, Transaction, Uniqueness, Unknown, UnknownId,
    UnknownKind, binary, json,
};

use crate::mutate::MAX_INPUT_LEN;
use crate::people::{Person, alice, bob};

/// The folders of recorded content, relative to the root of the workspace.
const RECORDED: [&str; 3] =
    ["crates/protocol/tests/vectors", "crates/crypto/tests/vectors", "crates/core/tests/vectors"];

/// Some time in 2024, in milliseconds since the Unix epoch.
pub(crate) const MADE_AT: u64 = 1_714_564_800_000;

/// Messages of every kind. The messages of one CoValue are in the order of their ingestion.
pub(crate) fn messages() -> Vec<Message> {
    let mut messages = contents().into_iter().map(Message::Content).collect::<Vec<_>>();
    let id = alice().account_id();
    let state = KnownState { id, header: true, sessions: counts() };
    let known = |is_correction, as_dependency_of| {
        Message::Known(Known { state: state.clone(), is_correction, as_dependency_of })
    };
    messages.extend([
        Message::Load(KnownState::empty(id)),
        Message::Load(state.clone()),
        known(false, None),
        known(true, None),
        known(false, Some(bob().account_id())),
        Message::Done(id),
        Message::Reconcile(Reconcile {
            id: "batch 1".into(),
            values: vec![
                (id, sessions_hash(&counts())),
                (header_id(&group()), sessions_hash(&SessionCounts::new())),
            ],
        }),
        Message::ReconcileAck("b\"\u{1f600}\n".into()),
        Message::Unknown(Unknown {
            id: UnknownId::new("co_zMistyped0\n").expect("the text is not a CoValue id"),
            kind: UnknownKind::Load,
        }),
    ]);
    messages
}

/// Content of accounts, of a group and its CoValues, of branches and streams, and a deletion.
fn contents() -> Vec<Content> {
    let (alice, bob) = (alice(), bob());
    let group_id = header_id(&group());
    let map = owned("comap", "null", Uniqueness::Text("zMap".into()));
    let map_id = header_id(&map);
    let free = Header::builder("colist", Ruleset::UnsafeAllowAll)
        .meta(r#"{"type":"note","n":1.5,"deep":[[{"\u00e9":"\ud83d\ude00"}]]}"#)
        .created_at("2024-05-01T12:00:00.000Z")
        .uniqueness(Uniqueness::Object(vec![("b".into(), "1".into()), ("a".into(), "\n".into())]))
        .build()
        .expect("valid");
    let file = owned("costream", r#"{"type":"binary"}"#, Uniqueness::Integer(7));
    let branch =
        owned("comap", &format!(r#"{{"source":"{map_id}","branch":"b"}}"#), Uniqueness::Bool(true));
    let admin = format!(
        r#"[{{"key":"{}","op":"set","value":"admin"}},{{"key":"everyone","op":"set","value":"reader"}}]"#,
        alice.account_id()
    );
    let parent = format!(
        r#"[{{"key":"parent_{group_id}","op":"set","value":"extend"}},{{"key":"{}","op":"set","value":"writer"}}]"#,
        bob.account_id()
    );
    let set = trusting(r#"[{"key":"a","op":"set","value":{"x":"\u00e9\"\\"}}]"#);
    let private = private("encrypted_UAbc-_123=", Some("encrypted_Umeta="));
    let deletion = delete::transaction(map_id, MADE_AT + 9);
    let delete_session = delete_session_id(&Owner::Account(alice.account_id()), [9; 7]);
    vec![
        content(
            alice.account(),
            vec![run(
                &alice,
                alice.session(0),
                vec![trusting(r#"[{"key":"profile","op":"set","value":"co_z1"}]"#)],
            )],
        ),
        content(bob.account(), vec![run(&bob, bob.agent_session(0), vec![private.clone()])]),
        content(
            group(),
            vec![
                run(
                    &alice,
                    alice.session(1),
                    vec![trusting(&admin), trusting(&parent), private.clone()],
                ),
                run(&bob, bob.session(1), vec![trusting(&parent)]),
            ],
        ),
        content(
            map.clone(),
            vec![
                run(&alice, alice.session(2), vec![set.clone(), private.clone(), set.clone()]),
                run(&bob, bob.session(2), vec![private.clone()]),
            ],
        ),
        later(
            &alice,
            map.clone(),
            alice.session(2),
            &[set.clone(), private.clone(), set.clone()],
            vec![private.clone(), set.clone()],
        ),
        content(free, vec![run(&bob, bob.agent_session(3), vec![set.clone(); 5])]),
        content(file, vec![run(&alice, alice.session(4), vec![private.clone(); 3])]),
        content(branch, vec![run(&bob, bob.session(5), vec![set])]),
        content(map, vec![run(&alice, delete_session, vec![deletion])]),
        Content { expect_content_until: Some(counts()), ..content(group(), Vec::new()) },
    ]
}

/// A run of signed transactions from the start of a session.
fn run(author: &Person, session: SessionId, transactions: Vec<Transaction>) -> SessionContent {
    let mut chain = HashChain::new();
    for transaction in &transactions {
        chain.append(transaction.json());
    }
    let last_signature = author.secret().signer_secret().sign_chain(&chain);
    SessionContent { session, after: 0, transactions, last_signature }
}

/// Content without a header that continues after the transactions `before`.
fn later(
    author: &Person,
    header: Header,
    session: SessionId,
    before: &[Transaction],
    new: Vec<Transaction>,
) -> Content {
    let whole = run(author, session, [before, &new].concat());
    let after = before.len() as u64;
    let mut content = content(header, vec![SessionContent { after, transactions: new, ..whole }]);
    content.header = None;
    content
}

fn content(header: Header, sessions: Vec<SessionContent>) -> Content {
    Content {
        id: header_id(&header),
        priority: header.priority(),
        header: Some(header),
        sessions,
        malformed: Vec::new(),
        expect_content_until: None,
    }
}

fn group() -> Header {
    Header::builder("comap", Ruleset::Group { initial_admin: Owner::Account(alice().account_id()) })
        .created_at("2024-05-01T12:00:00.000Z")
        .uniqueness(Uniqueness::Text("zGroup".into()))
        .build()
        .expect("valid")
}

fn owned(co_type: &str, meta: &str, uniqueness: Uniqueness) -> Header {
    Header::builder(co_type, Ruleset::OwnedByGroup { group: header_id(&group()) })
        .meta(meta)
        .uniqueness(uniqueness)
        .build()
        .expect("valid")
}

fn trusting(changes: &str) -> Transaction {
    Transaction::trusting(changes, MADE_AT, None)
}

fn private(changes: &str, meta: Option<&str>) -> Transaction {
    Transaction::private(changes, "key_z7Pm5FKWQZqUbkD2nF", MADE_AT + 1, meta)
}

fn counts() -> SessionCounts {
    [(alice().session(1), 3), (bob().agent_session(2), (1 << 53) - 1)].into_iter().collect()
}

/// The messages as JSON frames: each alone, and all messages of one CoValue together.
pub(crate) fn json_frames() -> Vec<Vec<u8>> {
    let messages = messages();
    let mut frames: Vec<Vec<u8>> = messages.iter().map(|message| frame([message])).collect();
    for id in
        messages.iter().filter_map(Message::co_value).collect::<std::collections::BTreeSet<_>>()
    {
        frames.push(frame(messages.iter().filter(|message| message.co_value() == Some(id))));
    }
    frames.push(frame(&messages));
    frames.extend([
        br#"{"type":"ping","time":1714564800000,"dc":"home"}"#.to_vec(),
        br#"{"action":"sing","id":"co_z1"}"#.to_vec(),
        br#" { "id" : "co_z1" , "x" : [ 1e3 , null , { } ] , "action" : "done" } "#.to_vec(),
        Vec::new(),
    ]);
    frames
}

fn frame<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u8> {
    let mut frame = Vec::new();
    for message in messages {
        if !frame.is_empty() {
            frame.push(b'\n');
        }
        json::encode_message(message, &mut frame);
    }
    frame
}

/// The messages as binary frames, alone and together.
pub(crate) fn binary_frames() -> Vec<Vec<u8>> {
    let messages = messages();
    let mut frames = Vec::new();
    let mut together = Vec::new();
    for message in &messages {
        let mut frame = Vec::new();
        binary::encode_message(message, &mut frame);
        frames.push(frame);
        binary::encode_message(message, &mut together);
    }
    frames.push(together);
    let mut frame = Vec::new();
    binary::encode_ping(&Ping { time: MADE_AT, dc: "home".into() }, &mut frame);
    frames.push(frame);
    frames
}

/// Headers and transactions as JSON texts, canonical and not.
pub(crate) fn parts() -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for content in contents() {
        parts.extend(content.header.map(|header| header.json().to_vec()));
        let transactions = content.sessions.iter().flat_map(|run| &run.transactions);
        parts.extend(transactions.map(|transaction| transaction.json().to_vec()));
    }
    parts.sort();
    parts.dedup();
    parts.extend(
        [
            r#"{"privacy":"trusting","madeAt":1.0e3,"changes":"[]","meta":null}"#,
            r#"{"encryptedChanges":"x","changes":"y","keyUsed":"k","madeAt":-0,"privacy":""}"#,
            r#"{"uniqueness":null,"type":"comap","ruleset":{"type":"unsafeAllowAll","x":1},"meta":{}}"#,
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    let ids: CoValueId = alice().account_id();
    parts.push(ids.as_str().as_bytes().to_vec());
    parts.push(alice().secret().agent().as_str().as_bytes().to_vec());
    parts.push(alice().session(0).as_str().as_bytes().to_vec());
    parts.push(bob().agent_session(0).as_str().as_bytes().to_vec());
    parts
}

/// JSON values of every kind.
pub(crate) fn values() -> Vec<Vec<u8>> {
    let mut values = parts();
    values.extend(json_frames());
    values.extend(
        [
            r#"{"b":[1,2.5e3,{"a":null}],"a":{"z":true,"y":false}}"#,
            r#"{"a":1,"a":2,"\u0061":3,"":0}"#,
            "{\"\u{ffff}\":1,\"\u{10000}\":2,\"\\ud800\":3,\"\\ud800\\udc00\":4}",
            r#"["encrypted_Uabc","binary_U\"","\u0065ncrypted_U\n","\/"]"#,
            "[1e21,1e-7,-0,0.1,9007199254740993,1e400,123456789012345680000,5e-324]",
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    values
}

/// The inputs of a target in a folder of this crate. `regressions` has those that have found a
/// fault, and `corpus` those that coverage-guided fuzzing keeps.
pub(crate) fn kept(folder: &str, target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    files_below(vec![folder]).iter().filter_map(|file| fs::read(file).ok()).collect()
}

/// The content recorded from the reference, as whole files and as lines.
pub(crate) fn recorded() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = files_below(RECORDED.iter().map(|folder| root.join(folder)).collect());
    let mut inputs = Vec::new();
    for bytes in files.iter().filter_map(|file| fs::read(file).ok()) {
        let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec);
        inputs.extend(lines.filter(|line| !line.is_empty() && line.len() <= MAX_INPUT_LEN));
        if bytes.len() <= MAX_INPUT_LEN {
            inputs.push(bytes);
        }
    }
    inputs
}

/// The files in these folders and the folders below. A missing folder has no files.
fn files_below(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    // The order of a folder's entries must not affect the cases of a seed.
    files.sort();
    files
}

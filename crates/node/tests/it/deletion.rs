//! Who may delete is decided by the history of the owning group.

use std::sync::Arc;
use std::time::Duration;

use downbeat_core::{CoValue, delete};
use downbeat_crypto::delete_session_id;
use downbeat_node::{LocalError, LocalValue, Node, Rejection};
use downbeat_protocol::{CoValueId, Header, Message, Owner, Ruleset, SessionId, Transaction};
use downbeat_storage::{FaultyStorage, MemoryStorage, Storage};

use crate::given::{Author, Peer, SOON, node, transaction, unique};

const AT: u64 = 1_700_000_000_000;

fn set_role(member: &Author, role: &str) -> Transaction {
    let agent = member.secret.agent();
    let changes = format!(r#"[{{"key":"{}","op":"set","value":"{role}"}}]"#, agent.as_str());
    Transaction::trusting(&changes, AT, None)
}

fn delete_session(author: &Author) -> SessionId {
    delete_session_id(&Owner::Agent(author.secret.agent()), [7; 7])
}

fn group_header(admin: &Author) -> Header {
    let admin = Owner::Agent(admin.secret.agent());
    unique(Header::builder("comap", Ruleset::Group { initial_admin: admin })).build().unwrap()
}

/// A CoValue of a group with this admin and this reader.
async fn owned(node: &Node, admin: &Author, reader: &Author) -> LocalValue {
    let mut group = node.local().create(group_header(admin)).await.unwrap();
    let roles = [set_role(admin, "admin"), set_role(reader, "reader")];
    group.append(&admin.session, roles, admin.signer()).await.unwrap();
    group.stored(SOON).await.unwrap();
    let ruleset = Ruleset::OwnedByGroup { group: group.id() };
    let header = unique(Header::builder("comap", ruleset)).build().unwrap();
    let mut value = node.local().create(header).await.unwrap();
    value.append(&admin.session, [transaction("content")], admin.signer()).await.unwrap();
    value.stored(SOON).await.unwrap();
    value
}

#[tokio::test]
async fn an_admin_of_the_group_deletes() {
    let (node, admin, reader) = (node(), Author::new(), Author::new());
    let mut value = owned(&node, &admin, &reader).await;
    let deletion = delete::transaction(value.id(), AT + 1);
    value.append(&delete_session(&admin), [deletion], admin.signer()).await.unwrap();
    value.stored(SOON).await.unwrap();
    let copy = node.local().load(value.id(), SOON).await.unwrap();
    assert!(copy.content().is_deleted());
    assert!(copy.content().session(&admin.session).is_none());
}

#[tokio::test]
async fn a_reader_of_the_group_does_not() {
    let (node, admin, reader) = (node(), Author::new(), Author::new());
    let mut value = owned(&node, &admin, &reader).await;
    let deletion = delete::transaction(value.id(), AT + 1);
    value.append(&delete_session(&reader), [deletion], reader.signer()).await.unwrap();
    let result = value.stored(SOON).await;
    assert!(matches!(result, Err(LocalError::Rejected(Rejection::InvalidDelete(_)))), "{result:?}");
    let copy = node.local().load(value.id(), SOON).await.unwrap();
    assert!(!copy.content().is_deleted());
    assert!(copy.content().session(&admin.session).is_some());
}

/// What a client brings that learnt of a CoValue only when it was deleted.
#[tokio::test]
async fn a_covalue_that_comes_deleted_is_acknowledged() {
    let (admin, reader) = (Author::new(), Author::new());
    let node = Node::builder(Arc::new(MemoryStorage::new())).start().unwrap();
    let group = owned(&node, &admin, &reader).await;
    let Ruleset::OwnedByGroup { group } = group.content().header().ruleset().clone() else {
        unreachable!("made so")
    };
    let header = unique(Header::builder("comap", Ruleset::OwnedByGroup { group })).build().unwrap();
    let mut deleted = CoValue::new(header);
    let deletion = delete::transaction(deleted.id(), AT + 1);
    deleted.append(&delete_session(&admin), deletion, admin.signer()).unwrap();
    let mut peer = Peer::connect(&node, 16).await;
    for content in deleted.content_since(None) {
        peer.send(Message::Content(content)).await;
    }
    loop {
        let known = peer.known().await;
        if known == deleted.known_state() {
            break;
        }
    }
}

/// Whether nothing is left of a CoValue but what says that it is deleted.
async fn is_erased(storage: &MemoryStorage, id: CoValueId) -> bool {
    let stats = storage.stats().await.unwrap();
    let stored = storage.load(id).await.unwrap().expect("the tombstone stays");
    assert!(stored.deleted);
    storage.erasable(None, 10).await.unwrap().is_empty() && stats.deleted == 1
}

async fn until_erased(storage: &MemoryStorage, id: CoValueId) {
    let erased = async {
        while !is_erased(storage, id).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, erased).await.expect("it is never erased");
}

#[tokio::test]
async fn what_a_deletion_leaves_behind_is_erased_in_the_background() {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let node = Node::builder(storage.clone()).start().unwrap();
    let (admin, reader) = (Author::new(), Author::new());
    let mut value = owned(&node, &admin, &reader).await;
    let deletion = delete::transaction(value.id(), AT + 1);
    value.append(&delete_session(&admin), [deletion], admin.signer()).await.unwrap();
    value.stored(SOON).await.unwrap();
    until_erased(storage.inner(), value.id()).await;
    let stats = node.stats().await.unwrap();
    assert_eq!(stats.storage.erased_transactions, 1);
    assert_eq!(stats.storage.erased_bytes, transaction("content").json().len() as u64);
    // It is as deleted as before.
    let copy = node.local().load(value.id(), SOON).await.unwrap();
    assert!(copy.content().is_deleted());
}

#[tokio::test]
async fn what_was_not_erased_before_the_end_is_erased_after_the_next_start() {
    let storage = Arc::new(FaultyStorage::new(MemoryStorage::new()));
    let first = Node::builder(storage.clone()).start().unwrap();
    let (admin, reader) = (Author::new(), Author::new());
    let mut value = owned(&first, &admin, &reader).await;
    let deletion = delete::transaction(value.id(), AT + 1);
    value.append(&delete_session(&admin), [deletion], admin.signer()).await.unwrap();
    value.stored(SOON).await.unwrap();
    drop(first);
    assert!(!is_erased(storage.inner(), value.id()).await, "the test is too slow");
    let _second = Node::builder(storage.clone()).start().unwrap();
    until_erased(storage.inner(), value.id()).await;
}

//! Where only some accounts may store content, nobody stores more than their share by claiming what
//! is not true.

use downbeat_core::CoValue;
use downbeat_node::AccountList;
use downbeat_protocol::{CoValueId, Content, Header, Message, Ruleset, Signature};

use crate::access::{
    Account, answer, is_stored, map_of, send, send_content, server, set, stats_when, whole,
};
use crate::given::{Peer, unique};

/// Content that claims to be of an account, with a signature that is none.
fn forged(value: &CoValue) -> Content {
    let mut content = whole(value);
    for run in &mut content.sessions {
        run.last_signature = Signature::from_bytes(&[7; 64]);
    }
    content
}

/// A header with this much of meta in it.
fn large(ruleset: Ruleset, bytes: usize) -> CoValue {
    let meta = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes));
    CoValue::new(unique(Header::builder("comap", ruleset).meta(&meta)).build().unwrap())
}

/// Has the server believe, without proof, that a listed account's group needs these. The account
/// is not there, so that the signature cannot be told to be none.
async fn claim_need(peer: &mut Peer, alice: &Account, ids: &[CoValueId]) -> CoValue {
    let mut group = alice.group(&[]);
    for id in ids {
        alice.sign(&mut group, set(&format!("parent_{id}"), "extend"));
    }
    peer.send(Message::Content(forged(&group))).await;
    group
}

#[tokio::test]
async fn a_header_under_the_id_of_a_listed_account_is_refused_and_changes_nothing() {
    let (alice, mallory) = (Account::new(), Account::new());
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    send(&mut peer, &alice.creation()).await;
    let mut stranger = Peer::connect(&node, 16).await;
    let mut forged = whole(&mallory.creation());
    forged.id = alice.id;
    forged.sessions.clear();
    send_content(&mut stranger, forged).await;
    assert_eq!(node.stats().await.unwrap().rejections.header_mismatch, 1);
    // The account's signatures are good as before.
    let group = alice.group(&[]);
    assert!(send(&mut peer, &group).await.header);
    assert!(is_stored(&storage, &group).await);
}

#[tokio::test]
async fn what_is_needed_without_proof_is_a_group_with_a_small_header() {
    let (alice, mallory) = (Account::new(), Account::new());
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut stranger = Peer::connect(&node, 16).await;
    let group = mallory.group(&[]);
    let ruleset = group.header().ruleset().clone();
    let (too_large, no_group) = (large(ruleset, 5_000), large(Ruleset::UnsafeAllowAll, 10));
    let ids = [group.id(), too_large.id(), no_group.id()];
    claim_need(&mut stranger, &alice, &ids).await;
    for value in [&too_large, &no_group, &group] {
        stranger.send(Message::Content(whole(value))).await;
    }
    stats_when(&node, |stats| stats.rejections.not_wanted == 1).await;
    stranger.send(Message::Content(whole(&mallory.creation()))).await;
    answer(&mut stranger, mallory.id, &[]).await;
    assert!(!is_stored(&storage, &too_large).await && !is_stored(&storage, &no_group).await);
}

#[tokio::test]
async fn what_was_forged_is_not_here() {
    let alice = Account::new();
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut stranger = Peer::connect(&node, 16).await;
    let group = claim_need(&mut stranger, &alice, &[]).await;
    // From another connection, whose content waits for nothing that the first one has sent.
    let mut other = Peer::connect(&node, 16).await;
    let empty = CoValue::new(group.header().clone());
    other.send(Message::Content(whole(&empty))).await;
    let map = map_of(&group);
    other.load(map.id()).await;
    answer(&mut other, map.id(), &[]).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!is_stored(&storage, &group).await);
}

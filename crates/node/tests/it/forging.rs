//! Where only some accounts may store content, no peer stores more than its share by claiming what
//! is not true.

use downbeat_core::{CoValue, delete};
use downbeat_crypto::{delete_session_id, random_session_id};
use downbeat_node::AccountList;
use downbeat_protocol::{
    CoValueId, Content, Header, Message, Owner, Ruleset, Signature, Transaction,
};
use downbeat_storage::Storage;

use crate::access::{
    Account, answer, is_stored, map_of, send, send_content, server, set, stats_when, stored, whole,
};
use crate::given::{Peer, transaction, unique};

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
/// is not there, so that the signature cannot be checked.
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

/// A delete session of the map that holds this.
fn deletion(alice: &Account, map: &CoValue, transaction: Transaction) -> Content {
    let (mut deleted, before) = (map.clone(), map.known_state());
    let session = delete_session_id(&Owner::Account(alice.id), [7; 7]);
    deleted.append(&session, transaction, alice.secret.signer_secret()).unwrap();
    let mut content = whole(&deleted);
    content.sessions.retain(|run| before.sessions.get(&run.session) == 0);
    content
}

#[tokio::test]
async fn beyond_the_quota_only_a_deletion_is_taken() {
    let alice = Account::new();
    let (node, storage) = server(&AccountList::new([alice.id]), Some(2_000));
    let mut peer = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    let mut map = map_of(&group);
    alice.write(&mut map, &"x".repeat(800));
    for value in [&alice.creation(), &group, &map] {
        assert!(send(&mut peer, value).await.header);
    }
    let marker = format!(r#"{{"deleted":"{}"}}"#, map.id());
    let padded = format!(r#"[{{"key":"a","op":"set","value":"{}"}}]"#, "x".repeat(2_000));
    let no_deletions = [
        transaction(&"x".repeat(2_000)),
        Transaction::trusting(&padded, 1_700_000_000_000, Some(&marker)),
    ];
    for transaction in no_deletions {
        let over = deletion(&alice, &map, transaction);
        assert_eq!(send_content(&mut peer, over).await, map.known_state());
    }
    assert_eq!(node.stats().await.unwrap().rejections.over_quota, 2);
    // Until not even this little goes.
    loop {
        let before = map.known_state();
        alice.write(&mut map, "x");
        let [content] = <[Content; 1]>::try_from(map.content_since(Some(&before))).unwrap();
        if send_content(&mut peer, content).await == before {
            break;
        }
    }
    let marker = delete::transaction(map.id(), 1_700_000_000_001);
    send_content(&mut peer, deletion(&alice, &map, marker)).await;
    assert!(storage.load(map.id()).await.unwrap().unwrap().deleted);
}

#[tokio::test]
async fn the_sessions_of_a_message_count_together() {
    let alice = Account::new();
    let (node, _storage) = server(&AccountList::new([alice.id]), Some(3_000));
    let mut peer = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    for value in [&alice.creation(), &group] {
        send(&mut peer, value).await;
    }
    let mut map = map_of(&group);
    for _ in 0..5 {
        let session = random_session_id(&Owner::Account(alice.id)).unwrap();
        let text = transaction(&"x".repeat(600));
        map.append(&session, text, alice.secret.signer_secret()).unwrap();
    }
    let taken = send(&mut peer, &map).await.sessions.iter().count();
    assert!((1..5).contains(&taken), "{taken}");
    assert!(node.stats().await.unwrap().accounts[0].stored_bytes <= 3_000);
}

#[tokio::test]
async fn what_waits_for_a_proof_holds_up_nothing_that_comes_after_it() {
    let (alice, mallory) = (Account::new(), Account::new());
    let (node, _storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    // The same again and again, each in the place of the one before it.
    let empty = large(Ruleset::UnsafeAllowAll, 3_800);
    for _ in 0..3_000 {
        peer.send(Message::Content(whole(&empty))).await;
    }
    // More than may wait.
    for _ in 0..20 {
        let mut group = CoValue::new(alice.group(&[]).header().clone());
        mallory.sign(&mut group, set("profile", &"x".repeat(500_000)));
        peer.send(Message::Content(whole(&group))).await;
    }
    assert!(!send(&mut peer, &mallory.creation()).await.header);
    stats_when(&node, |stats| stats.rejections.not_wanted > 10).await;
}

#[tokio::test]
async fn who_forges_a_members_signature_takes_no_room_from_it() {
    let (alice, bob) = (Account::new(), Account::new());
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    let (account, mut group) = (bob.creation(), alice.group(&[bob.id]));
    send(&mut peer, &alice.creation()).await;
    peer.send(Message::Content(whole(&group))).await;
    assert!(answer(&mut peer, group.id(), &[&account]).await.header);
    let before = group.known_state();
    bob.sign(&mut group, set("profile", &"x".repeat(900_000)));
    let [content] = <[Content; 1]>::try_from(group.content_since(Some(&before))).unwrap();
    let mut signed_by_none = content.clone();
    signed_by_none.sessions[0].last_signature = Signature::from_bytes(&[7; 64]);
    let mut stranger = Peer::connect(&node, 16).await;
    stranger.send(Message::Content(signed_by_none)).await;
    stats_when(&node, |stats| stats.rejections.bad_signature == 1).await;
    send_content(&mut peer, content).await;
    assert_eq!(stored(&storage, &group, &bob).await, 1);
}

#[tokio::test]
async fn a_connection_has_the_rights_of_its_account_as_long_as_that_is_listed() {
    let (alice, bob) = (Account::new(), Account::new());
    let accounts = AccountList::new([alice.id, bob.id]);
    let (node, storage) = server(&accounts, None);
    let mut peer = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    for value in [&alice.creation(), &group, &map_of(&group)] {
        assert!(send(&mut peer, value).await.header);
    }
    accounts.set([bob.id]);
    let empty = map_of(&group);
    peer.send(Message::Content(whole(&empty))).await;
    assert!(!send(&mut peer, &alice.group(&[])).await.header);
    assert!(!is_stored(&storage, &empty).await);
}

#[tokio::test]
async fn headers_count_for_the_quota_of_the_account_behind_the_connection() {
    let alice = Account::new();
    let (node, _storage) = server(&AccountList::new([alice.id]), Some(20_000));
    let mut peer = Peer::connect(&node, 16).await;
    for value in [&alice.creation(), &alice.group(&[])] {
        assert!(send(&mut peer, value).await.header);
    }
    let mut taken = 0;
    for _ in 0..10 {
        taken += u64::from(send(&mut peer, &large(Ruleset::UnsafeAllowAll, 3_900)).await.header);
    }
    assert_eq!(taken, 4);
    let stats = node.stats().await.unwrap();
    assert!((16_000..=20_000).contains(&stats.accounts[0].stored_bytes));
    assert_eq!(stats.limits.account_quota, 6);
}

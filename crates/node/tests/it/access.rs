//! Where only some accounts may store content, that is what is stored, with what it depends on.

use std::sync::Arc;
use std::time::Duration;

use downbeat_core::CoValue;
use downbeat_crypto::{AgentSecret, header_id, random_session_id};
use downbeat_node::{Access, AccountList, Node, Stats};
use downbeat_protocol::{
    CoValueId, Content, Header, Known, KnownState, Message, Owner, Ruleset, SessionId, Signature,
    Transaction,
};
use downbeat_storage::{MemoryStorage, Storage};

use crate::given::{Peer, SOON, link, transaction, unique};

/// An account with a session of its own and one of its agent.
pub(crate) struct Account {
    pub secret: AgentSecret,
    pub id: CoValueId,
    pub session: SessionId,
    agent_session: SessionId,
}

impl Account {
    pub(crate) fn new() -> Self {
        let secret = AgentSecret::generate().unwrap();
        let id = header_id(&Header::account(&secret.agent()));
        let session = random_session_id(&Owner::Account(id)).unwrap();
        let agent_session = random_session_id(&Owner::Agent(secret.agent())).unwrap();
        Self { secret, id, session, agent_session }
    }

    /// The account's CoValue, as it is made by its agent.
    pub(crate) fn creation(&self) -> CoValue {
        let mut account = CoValue::new(Header::account(&self.secret.agent()));
        let role = set(self.secret.agent().as_str(), "admin");
        account.append(&self.agent_session, role, self.secret.signer_secret()).unwrap();
        account
    }

    pub(crate) fn write(&self, value: &mut CoValue, text: &str) {
        self.sign(value, transaction(text));
    }

    pub(crate) fn sign(&self, value: &mut CoValue, transaction: Transaction) {
        value.append(&self.session, transaction, self.secret.signer_secret()).unwrap();
    }

    /// A group with these members.
    pub(crate) fn group(&self, members: &[CoValueId]) -> CoValue {
        let initial_admin = Owner::Account(self.id);
        let header = unique(Header::builder("comap", Ruleset::Group { initial_admin }));
        let mut group = CoValue::new(header.build().unwrap());
        self.sign(&mut group, set(self.id.as_str(), "admin"));
        for member in members {
            self.sign(&mut group, set(member.as_str(), "writer"));
        }
        group
    }
}

pub(crate) fn set(key: &str, value: &str) -> Transaction {
    let changes = format!(r#"[{{"key":"{key}","op":"set","value":"{value}"}}]"#);
    Transaction::trusting(&changes, 1_700_000_000_000, None)
}

/// A map that a group owns.
pub(crate) fn map_of(group: &CoValue) -> CoValue {
    let ruleset = Ruleset::OwnedByGroup { group: group.id() };
    CoValue::new(unique(Header::builder("comap", ruleset)).build().unwrap())
}

pub(crate) fn whole(value: &CoValue) -> Content {
    let [content] = <[Content; 1]>::try_from(value.content_since(None)).unwrap();
    content
}

/// A server on which only these accounts may store content.
pub(crate) fn server(accounts: &AccountList, quota: Option<u64>) -> (Node, Arc<MemoryStorage>) {
    let storage = Arc::new(MemoryStorage::new());
    let access = Access::Accounts { accounts: accounts.clone(), quota };
    (Node::builder(storage.clone()).access(access).start().unwrap(), storage)
}

pub(crate) async fn is_stored(storage: &MemoryStorage, value: &CoValue) -> bool {
    storage.load(value.id()).await.unwrap().is_some()
}

/// Transactions of an account that are stored.
pub(crate) async fn stored(storage: &MemoryStorage, value: &CoValue, by: &Account) -> u64 {
    let stored = storage.load(value.id()).await.unwrap();
    stored.map_or(0, |stored| stored.counts().get(&by.session))
}

/// Sends content, and waits for what is said of that CoValue. What the server asks for meanwhile
/// is not here.
pub(crate) async fn send(peer: &mut Peer, value: &CoValue) -> KnownState {
    send_content(peer, whole(value)).await
}

pub(crate) async fn send_content(peer: &mut Peer, content: Content) -> KnownState {
    let id = content.id;
    peer.send(Message::Content(content)).await;
    answer(peer, id, &[]).await
}

/// Waits for what is said of a CoValue, and brings what the server asks for, if it is among these.
pub(crate) async fn answer(peer: &mut Peer, id: CoValueId, others: &[&CoValue]) -> KnownState {
    loop {
        match peer.next().await {
            Message::Known(known) if known.state.id == id => return known.state,
            Message::Load(asked) => {
                let found = others.iter().find(|other| other.id() == asked.id);
                peer.send(match found {
                    Some(found) => Message::Content(whole(found)),
                    None => Message::Known(Known {
                        state: KnownState::empty(asked.id),
                        is_correction: false,
                        as_dependency_of: None,
                    }),
                })
                .await;
            }
            _ => {}
        }
    }
}

pub(crate) async fn stats_when(node: &Node, is_true: impl Fn(&Stats) -> bool) -> Stats {
    let coming = async {
        loop {
            let stats = node.stats().await.unwrap();
            if is_true(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, coming).await.expect("it never became true")
}

#[tokio::test]
async fn a_listed_account_stores_itself_its_groups_and_what_they_own() {
    let alice = Account::new();
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    let mut map = map_of(&group);
    alice.write(&mut map, "one");
    for value in [&alice.creation(), &group, &map] {
        assert!(send(&mut peer, value).await.header);
        assert!(is_stored(&storage, value).await);
    }
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.rejections.not_allowed, stats.rejections.not_wanted), (0, 0));
    assert_eq!(stats.accounts.len(), 1);
    assert!(stats.accounts[0].stored_bytes > 0);
}

#[tokio::test]
async fn a_stranger_stores_nothing_and_is_told_so() {
    let (alice, mallory) = (Account::new(), Account::new());
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    let group = mallory.group(&[]);
    let mut map = map_of(&group);
    mallory.write(&mut map, "one");
    for value in [&mallory.creation(), &group, &map] {
        assert_eq!(send(&mut peer, value).await, KnownState::empty(value.id()));
    }
    assert_eq!(storage.count().await.unwrap(), 0);
    let stats = node.stats().await.unwrap();
    assert_eq!((stats.rejections.not_allowed, stats.rejections.not_wanted), (3, 3));
    assert_eq!(stats.refused[0].co_value, Some(map.id()));
    assert!(stats.refused.iter().any(|refused| refused.reason == "not_allowed"));
}

#[tokio::test]
async fn a_strangers_session_is_left_out_and_the_others_of_the_message_are_taken() {
    let (alice, mallory) = (Account::new(), Account::new());
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    let mut map = map_of(&group);
    mallory.write(&mut map, "hers");
    alice.write(&mut map, "mine");
    send(&mut peer, &alice.creation()).await;
    send(&mut peer, &group).await;
    assert_eq!(send(&mut peer, &map).await.sessions.iter().count(), 1);
    assert_eq!(stored(&storage, &map, &alice).await, 1);
    assert_eq!(stored(&storage, &map, &mallory).await, 0);
    // Nor is it taken where the CoValue is there.
    let mut stranger = Peer::connect(&node, 16).await;
    mallory.write(&mut map, "more");
    let mut content = whole(&map);
    content.sessions.retain(|run| run.session == mallory.session);
    send_content(&mut stranger, content).await;
    assert_eq!(stored(&storage, &map, &mallory).await, 0);
    // The peer is listened to as before.
    alice.write(&mut map, "again");
    send(&mut stranger, &map).await;
    assert_eq!(stored(&storage, &map, &alice).await, 2);
}

#[tokio::test]
async fn a_member_who_is_not_listed_is_stored_where_a_listed_account_names_it() {
    let (alice, bob) = (Account::new(), Account::new());
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    let account = bob.creation();
    assert!(!send(&mut peer, &account).await.header, "so far it is not needed");
    let group = alice.group(&[bob.id]);
    send(&mut peer, &alice.creation()).await;
    peer.send(Message::Content(whole(&group))).await;
    assert!(answer(&mut peer, group.id(), &[&account]).await.header);
    assert!(is_stored(&storage, &group).await && is_stored(&storage, &account).await);
    // What else Bob makes is not.
    let other = bob.group(&[]);
    assert!(!send(&mut peer, &other).await.header);
    // In the group he may do what members do, within bounds.
    let mut group = group;
    bob.sign(&mut group, set("profile", "x"));
    send(&mut peer, &group).await;
    assert_eq!(stored(&storage, &group, &bob).await, 1);
    for _ in 0..3 {
        let before = group.known_state();
        bob.sign(&mut group, set("profile", &"x".repeat(500_000)));
        for content in group.content_since(Some(&before)) {
            send_content(&mut peer, content).await;
        }
    }
    assert_eq!(stored(&storage, &group, &bob).await, 3);
}

#[tokio::test]
async fn a_covalue_without_content_is_stored_when_its_sender_has_shown_who_it_is() {
    let alice = Account::new();
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    let empty = map_of(&group);
    let mut map = map_of(&group);
    alice.write(&mut map, "one");
    let mut stranger = Peer::connect(&node, 16).await;
    stranger.send(Message::Content(whole(&empty))).await;
    peer.send(Message::Content(whole(&empty))).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!is_stored(&storage, &empty).await);
    send(&mut peer, &alice.creation()).await;
    send(&mut peer, &group).await;
    send(&mut peer, &map).await;
    stats_when(&node, |stats| stats.stored.is_some_and(|stored| stored.co_values == 4)).await;
    assert!(is_stored(&storage, &empty).await);
    // The stranger has shown nothing, and there is nothing for it to wait for when it leaves.
    let other = map_of(&group);
    stranger.send(Message::Content(whole(&other))).await;
    stranger.load(group.id()).await;
    stranger.content(group.id()).await;
    drop(stranger);
    stats_when(&node, |stats| stats.rejections.not_wanted == 2).await;
    assert!(!is_stored(&storage, &other).await);
}

#[tokio::test]
async fn a_covalue_that_only_claims_to_be_of_a_listed_account_is_not_stored() {
    let alice = Account::new();
    let (node, storage) = server(&AccountList::new([alice.id]), None);
    let mut peer = Peer::connect(&node, 16).await;
    send(&mut peer, &alice.creation()).await;
    let mut stranger = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    let mut forged = whole(&group);
    forged.sessions[0].last_signature = Signature::from_bytes(&[7; 64]);
    assert!(!send_content(&mut stranger, forged).await.header);
    assert!(!is_stored(&storage, &group).await);
    assert_eq!(node.stats().await.unwrap().rejections.bad_signature, 1);
}

#[tokio::test]
async fn an_account_stores_as_much_as_its_quota() {
    let alice = Account::new();
    let (node, storage) = server(&AccountList::new([alice.id]), Some(2_000));
    let mut peer = Peer::connect(&node, 16).await;
    let group = alice.group(&[]);
    let mut map = map_of(&group);
    send(&mut peer, &alice.creation()).await;
    send(&mut peer, &group).await;
    for _ in 0..10 {
        alice.write(&mut map, &"x".repeat(400));
        send(&mut peer, &map).await;
    }
    let count = stored(&storage, &map, &alice).await;
    assert!((1..5).contains(&count), "{count}");
    let stats = node.stats().await.unwrap();
    assert!(stats.rejections.over_quota > 0 && stats.limits.account_quota > 0);
    assert!(stats.accounts[0].stored_bytes <= 2_000);
}

#[tokio::test]
async fn the_list_can_change_while_the_node_runs() {
    let (alice, bob) = (Account::new(), Account::new());
    let accounts = AccountList::new([alice.id]);
    let (node, storage) = server(&accounts, None);
    let mut peer = Peer::connect(&node, 16).await;
    assert!(!send(&mut peer, &bob.creation()).await.header);
    accounts.set([bob.id]);
    assert!(send(&mut peer, &bob.creation()).await.header);
    assert!(!send(&mut peer, &alice.creation()).await.header);
    assert!(!is_stored(&storage, &alice.creation()).await);
}

/// A core that holds everything, and an edge for a listed account.
async fn edge(listed: &Account, values: &[&CoValue]) -> (Node, Node, Arc<MemoryStorage>) {
    let core = Node::builder(Arc::new(MemoryStorage::new())).start().unwrap();
    let mut peer = Peer::connect(&core, 16).await;
    for value in values {
        send(&mut peer, value).await;
    }
    let (edge, storage) = server(&AccountList::new([listed.id]), None);
    link(&edge, &core, "core").await;
    (core, edge, storage)
}

#[tokio::test]
async fn from_upstream_comes_what_a_listed_account_may_load_as_a_whole() {
    let (alice, bob) = (Account::new(), Account::new());
    let group = bob.group(&[alice.id]);
    let mut map = map_of(&group);
    bob.write(&mut map, "for alice");
    let (accounts, values) = ([alice.creation(), bob.creation()], [&group, &map]);
    let all = [&accounts[0], &accounts[1], values[0], values[1]];
    let (_core, edge, storage) = edge(&alice, &all).await;
    let mut peer = Peer::connect(&edge, 16).await;
    peer.load(map.id()).await;
    assert_eq!(peer.content(map.id()).await.sessions.len(), 1);
    stats_when(&edge, |stats| stats.stored.is_some_and(|stored| stored.co_values == 4)).await;
    assert_eq!(stored(&storage, &map, &bob).await, 1);
}

#[tokio::test]
async fn from_upstream_comes_nothing_that_is_no_listed_accounts_concern() {
    let (alice, mallory) = (Account::new(), Account::new());
    let group = mallory.group(&[]);
    let mut map = map_of(&group);
    mallory.write(&mut map, "not for alice");
    let account = mallory.creation();
    let (core, edge, storage) = edge(&alice, &[&account, &group, &map]).await;
    let mut peer = Peer::connect(&edge, 16).await;
    peer.load(map.id()).await;
    assert_eq!(answer(&mut peer, map.id(), &[]).await, KnownState::empty(map.id()));
    assert_eq!(storage.count().await.unwrap(), 0);
    let sent = core.stats().await.unwrap().sent.content;
    // Asking again brings nothing from upstream for a while.
    peer.load(map.id()).await;
    assert_eq!(answer(&mut peer, map.id(), &[]).await, KnownState::empty(map.id()));
    assert_eq!(core.stats().await.unwrap().sent.content, sent);
}

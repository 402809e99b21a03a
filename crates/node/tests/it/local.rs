//! Writing and reading in the program that runs the node.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use downbeat_node::{LocalError, Node};
use downbeat_protocol::{CoValueId, KnownState, Privacy, Transaction};
use downbeat_storage::{MemoryStorage, Storage};
use futures_util::StreamExt;

use crate::given::{Author, SOON, count, map, node, transaction, wait_for};

#[tokio::test]
async fn what_is_written_can_be_read_in_another_place() {
    let (node, author) = (node(), Author::new());
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    let mut copy = node.local().load(value.id(), SOON).await.unwrap();
    wait_for(&mut copy, &author, 1).await;
    author.write(&mut value, "two").await;
    wait_for(&mut copy, &author, 2).await;
    assert_eq!(copy.content().known_state(), value.content().known_state());
}

#[tokio::test]
async fn several_transactions_go_out_together_private_ones_as_they_are() {
    let (node, author) = (node(), Author::new());
    let mut value = node.local().create(map()).await.unwrap();
    let private = Transaction::private("encrypted_Uabc", "key_z1", 1_700_000_000_000, None);
    let transactions = [transaction("a"), private, transaction("b")];
    value.append(&author.session, transactions, author.signer()).await.unwrap();
    value.stored(SOON).await.unwrap();
    let copy = node.local().load(value.id(), SOON).await.unwrap();
    let log = copy.content().session(&author.session).unwrap();
    assert_eq!(log.len(), 3);
    assert_eq!(log.transactions()[1].privacy(), Privacy::Private);
}

#[tokio::test]
async fn a_header_alone_is_stored_and_loaded() {
    let node = node();
    let mut value = node.local().create(map()).await.unwrap();
    value.stored(SOON).await.unwrap();
    let copy = node.local().load(value.id(), SOON).await.unwrap();
    assert_eq!(copy.content().header(), value.content().header());
}

#[tokio::test]
async fn what_nobody_has_is_asked_for_once_more_and_not_found() {
    let node = node();
    let id = CoValueId::parse("co_zAskbsN81tFNWPei3cnpQCwVNcA").unwrap();
    let started = Instant::now();
    let result = node.local().load(id, SOON).await;
    assert!(matches!(result, Err(LocalError::NotFound(missing)) if missing == id));
    assert!(started.elapsed() >= Duration::from_secs(3));
    let mut updates = node.local().updates(KnownState::empty(id)).await.unwrap();
    assert!(matches!(updates.next().await, Err(LocalError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_away_is_unreachable_and_not_waited_for() {
    let node = node();
    let id = CoValueId::parse("co_zAskbsN81tFNWPei3cnpQCwVNcA").unwrap();
    let (up, down) = downbeat_transport::pair(4);
    node.connect_upstream("core", up).await.unwrap();
    drop(down);
    let load = async {
        loop {
            // Until the node has noticed that the upstream has gone.
            match node.local().load(id, Duration::from_mins(10)).await {
                Err(LocalError::Unreachable(missing)) => return missing,
                Err(LocalError::NotFound(_)) => {}
                other => panic!("{:?}", other.map(|value| value.id())),
            }
        }
    };
    let missing = tokio::time::timeout(Duration::from_secs(20), load).await;
    assert_eq!(missing, Ok(id));
    let mut updates = node.local().updates(KnownState::empty(id)).await.unwrap();
    assert!(matches!(updates.next().await, Err(LocalError::Unreachable(_))));
}

#[tokio::test]
async fn a_load_ends_within_its_time() {
    let node = node();
    let id = CoValueId::parse("co_zAskbsN81tFNWPei3cnpQCwVNcA").unwrap();
    // It is asked for again after three seconds.
    let result = node.local().load(id, Duration::from_millis(100)).await;
    assert!(matches!(result, Err(LocalError::NotLoaded(missing, _)) if missing == id));
}

#[tokio::test]
async fn what_comes_into_being_while_it_is_waited_for_is_found() {
    let (node, author) = (node(), Author::new());
    let header = map();
    let id = downbeat_crypto::header_id(&header);
    let local = node.local();
    let loading = tokio::spawn(async move { local.load(id, SOON).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut value = node.local().create(header).await.unwrap();
    author.write(&mut value, "late").await;
    let mut loaded = tokio::time::timeout(SOON, loading).await.unwrap().unwrap().unwrap();
    wait_for(&mut loaded, &author, 1).await;
}

#[tokio::test]
async fn content_of_a_session_of_somebody_else_cannot_be_written() {
    let (node, author, other) = (node(), Author::new(), Author::new());
    let mut value = node.local().create(map()).await.unwrap();
    let result = value.append(&author.session, [transaction("no")], other.signer()).await;
    assert!(matches!(result, Err(LocalError::Append(_))));
    assert_eq!(count(value.content(), &author), 0);
}

#[tokio::test]
async fn updates_go_on_from_what_the_program_has() {
    let (node, author) = (node(), Author::new());
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    let mut updates = node.local().updates(value.content().known_state()).await.unwrap();
    author.write(&mut value, "two").await;
    let content = tokio::time::timeout(SOON, async {
        loop {
            let content = updates.next().await.unwrap();
            if !content.sessions.is_empty() {
                return content;
            }
        }
    });
    let content = content.await.unwrap();
    assert!(content.header.is_none());
    assert_eq!(content.sessions[0].after, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_closing_is_stored() {
    const WRITES: u64 = 12;
    let node = node();
    for _ in 0..40 {
        let author = Author::new();
        let mut value = node.local().create(map()).await.unwrap();
        let id = value.id();
        for _ in 0..WRITES {
            author.write(&mut value, "quick").await;
        }
        drop(value);
        let mut copy = node.local().load(id, SOON).await.unwrap();
        wait_for(&mut copy, &author, WRITES).await;
    }
}

#[tokio::test]
async fn a_node_that_has_ended_says_so() {
    let (node, author) = (node(), Author::new());
    let local = node.local();
    let mut value = local.create(map()).await.unwrap();
    value.stored(SOON).await.unwrap();
    node.shutdown().await.unwrap();
    assert!(matches!(local.create(map()).await, Err(LocalError::ShutDown)));
    let result = async {
        value.append(&author.session, [transaction("late")], author.signer()).await?;
        value.stored(SOON).await
    };
    assert!(matches!(result.await, Err(LocalError::ShutDown)));
}

#[tokio::test]
async fn without_an_upstream_nothing_is_waited_for() {
    let node = node();
    let mut value = node.local().create(map()).await.unwrap();
    value.synced(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn the_ids_of_what_is_stored_come_in_pages() {
    let node = node();
    let mut made = Vec::new();
    for _ in 0..3 {
        let mut value = node.local().create(map()).await.unwrap();
        value.stored(SOON).await.unwrap();
        made.push(value.id());
    }
    made.sort_unstable();
    let first = node.local().ids(None, 2).await.unwrap();
    let rest = node.local().ids(first.last().copied(), 2).await.unwrap();
    assert_eq!((&first[..], &rest[..]), made.split_at(2));
}

#[tokio::test]
async fn updates_are_a_stream_as_well() {
    let (node, author) = (node(), Author::new());
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "one").await;
    value.stored(SOON).await.unwrap();
    let updates = node.local().updates(KnownState::empty(value.id())).await.unwrap();
    let mut updates = updates.into_stream();
    let content = tokio::time::timeout(SOON, updates.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(content.sessions[0].session, author.session);
    node.shutdown().await.unwrap();
    while let Some(content) = updates.next().await {
        if let Err(error) = content {
            assert!(matches!(error, LocalError::ShutDown));
        }
    }
}

#[tokio::test]
async fn a_storage_can_be_bare_boxed_or_shared() {
    let shared: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let boxed: Box<dyn Storage> = Box::new(MemoryStorage::new());
    let threads = NonZeroUsize::MIN;
    for builder in [
        Node::builder(MemoryStorage::new()),
        Node::builder(Box::new(MemoryStorage::new())),
        Node::builder(Arc::new(MemoryStorage::new())),
        Node::builder(boxed),
        Node::builder(shared),
    ] {
        let node = builder.verifier_threads(threads).start().unwrap();
        let mut value = node.local().create(map()).await.unwrap();
        value.stored(SOON).await.unwrap();
    }
}

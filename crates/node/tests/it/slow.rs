//! A peer that does not read costs nothing, and gets the difference when it does.

use std::time::Duration;

use crate::given::{Author, Peer, SOON, map, node, wait_for};

#[tokio::test]
async fn a_slow_reader_gets_many_updates_as_one() {
    const UPDATES: u64 = 300;
    let (node, author) = (node(), Author::new());
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "first").await;
    value.stored(SOON).await.unwrap();
    let mut slow = Peer::connect(&node, 1).await;
    slow.load(value.id()).await;
    let mut quick = node.local().load(value.id(), SOON).await.unwrap();
    for _ in 0..UPDATES {
        author.write(&mut value, "more").await;
        value.stored(SOON).await.unwrap();
    }
    wait_for(&mut quick, &author, UPDATES + 1).await;
    let (mut reached, mut messages) = (0, 0);
    while reached <= UPDATES {
        let content = slow.content(value.id()).await;
        messages += 1;
        for run in content.sessions {
            assert!(run.after <= reached, "there is no gap");
            reached = run.end();
        }
    }
    assert!(messages < 20, "{messages} messages for {UPDATES} updates");
}

#[tokio::test]
async fn a_program_that_does_not_look_holds_nobody_up() {
    let (node, author) = (node(), Author::new());
    let mut value = node.local().create(map()).await.unwrap();
    author.write(&mut value, "first").await;
    let mut asleep = node.local().load(value.id(), SOON).await.unwrap();
    for _ in 0..100 {
        author.write(&mut value, "more").await;
    }
    tokio::time::timeout(Duration::from_secs(10), value.stored(SOON)).await.unwrap().unwrap();
    wait_for(&mut asleep, &author, 101).await;
}

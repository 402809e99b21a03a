//! Rejected content, and its effects on other content.

use downbeat_protocol::{DecodeError, MalformedSession, Message};
use downbeat_sync::cost::content_credit;
use downbeat_sync::{Action, Event, Item, Progress, Rejection};

use crate::authors::{Author, Value, forged};
use crate::load::world_with_map;
use crate::world::World;

#[test]
fn a_bad_signature_is_refused_and_the_other_sessions_are_taken() {
    let (mut world, map, mut log) = world_with_map();
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.load(&[(&log, 2)]));
    world.send(bob, map.load(&[(&log, 2)]));
    world.skip_log();
    let bad = forged(log.clone().write(&["[3]"]));
    world.send(alice, map.more(vec![bad, other.write(&["[1]"])]));
    assert_eq!(world.durable(&map, &log), 2);
    assert_eq!(world.durable(&map, &other), 1);
    assert!(matches!(world.reports[0].rejection, Rejection::BadSignature { after: 2 }));
    assert_eq!(
        world.said(),
        [
            "alice → CONTENT map a:2+1 b:0+1",
            "alice ✗ the signature does not match the session's log after transaction 2",
            "bob ← CONTENT map b:0+1",
            "alice ← KNOWN map header a:2 b:1",
        ]
    );

    // Content of the peer is not taken any longer, where this CoValue is concerned.
    let good = log.write(&["[3]"]);
    world.send(alice, map.more(vec![good.clone()]));
    assert_eq!(world.durable(&map, &log), 2);
    assert!(!world.said().iter().any(|line| line.contains('←')));

    // That of others is, and the peer gets it.
    world.send(bob, map.more(vec![good]));
    world.expect(&[
        "bob → CONTENT map a:2+1",
        "alice ← CONTENT map a:2+1",
        "bob ← KNOWN map header a:3 b:1",
    ]);

    // So is the peer, about other CoValues.
    let next = Value::free("next");
    world.name(&next, "next");
    world.send(alice, next.whole(Vec::new()));
    world.expect(&["alice → CONTENT next header", "alice ← KNOWN next header"]);
}

#[test]
fn a_fork_is_told_from_a_forgery_and_its_author_is_sent_what_it_lost() {
    let (mut world, map, log) = world_with_map();
    // Alice has lost everything after the first two transactions, and writes others there.
    let mut lost = log.clone();
    let mut forked = log.clone();
    let alice = world.connect("alice");
    world.send(alice, map.more(vec![lost.write(&["[3]"])]));
    world.send(alice, map.more(vec![lost.write(&["[4]"])]));
    world.skip_log();
    for (changes, count) in [(&["[33]"][..], 1), (&["[44]", "[55]"][..], 3)] {
        world.send(alice, map.more(vec![forked.write(changes)]));
        assert_eq!(forked.count, 2 + count);
        let rejection = world.reports.pop().unwrap().rejection;
        assert!(matches!(rejection, Rejection::Forked { .. }), "{rejection}");
    }
    assert_eq!(world.durable(&map, &log), 4);
    assert_eq!(
        world.said(),
        [
            "alice → CONTENT map a:2+1",
            "alice ✗ the session's author has forked it after transaction 2",
            "alice ← KNOWN map header a:4",
            "alice ← CONTENT map a:2+2",
            "alice → CONTENT map a:3+2",
            "alice ✗ the session's author has forked it after transaction 2",
            "alice ← KNOWN map header a:4",
            "alice ← CONTENT map a:2+2",
        ]
    );

    // A forgery by another peer at the same place is not a fork.
    let mallory = world.connect("mallory");
    world.send(mallory, map.more(vec![forged(log.clone().write(&["[666]"]))]));
    assert!(matches!(world.reports.pop().unwrap().rejection, Rejection::BadSignature { .. }));

    // A repetition of the same content is accepted from any peer.
    let bob = world.connect("bob");
    world.skip_log();
    world.send(bob, map.more(vec![log.clone().write(&["[3]"])]));
    world.expect(&[
        "bob → CONTENT map a:2+1",
        "bob ← KNOWN map header a:4",
        "bob ← CONTENT map a:3+1",
    ]);
}

#[test]
fn a_turn_that_ends_early_does_not_undo_what_a_fork_has_shown() {
    let (mut world, map, log) = world_with_map();
    let (mut lost, forked) = (log.clone(), log.clone());
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(alice, map.more(vec![lost.write(&["[3]"])]));
    world.stick(alice);
    world.send(bob, map.more(vec![other.write(&["[1]"])]));
    // While the turn with bob's content is being written, alice shows that she has lost something.
    world.send(alice, map.more(vec![forked.clone().write(&["[33]"])]));
    assert_eq!(world.reports.len(), 1);
    let items = world.lose_turn(alice);
    world.skip_log();
    let unsent = items.into_iter().map(|item| match item {
        Item::Content(item) => Progress {
            id: item.id,
            epoch: item.epoch,
            header: true,
            started: false,
            reached: item.have,
            stalled: false,
        },
        Item::Message(message) => panic!("{message:?} is no content"),
    });
    world.event(Event::TurnDone { peer: alice, progress: unsent.collect() });
    world.expect(&["alice ← KNOWN map header a:3 b:1", "alice ← CONTENT map a:2+1 b:0+1"]);
}

#[test]
fn a_repeated_fork_is_refused_without_a_look_at_the_log() {
    let (mut world, map, log) = world_with_map();
    let mut lost = log.clone();
    let alice = world.connect("alice");
    world.send(alice, map.more(vec![lost.write(&["[3]"])]));
    let forks: Vec<_> =
        ["[33]", "[34]", "[35]"].map(|changes| log.clone().write(&[changes])).into();
    world.send(alice, map.more(vec![forks[0].clone()]));
    assert_eq!(world.reports.len(), 1);
    world.slow_verifier = true;
    for fork in forks {
        world.send(alice, map.more(vec![fork]));
        assert!(world.waiting.is_empty(), "it is verified again");
        let rejection = world.reports.pop().unwrap().rejection;
        assert!(matches!(rejection, Rejection::Forked { at: 2 }), "{rejection}");
    }
    // Until the peer has the same log again.
    world.slow_verifier = false;
    world.send(alice, map.more(vec![lost.write(&["[4]"])]));
    assert_eq!(world.durable(&map, &log), 4);
    world.slow_verifier = true;
    world.send(alice, map.more(vec![log.clone().write(&["[3]"])]));
    assert_eq!(world.waiting.len(), 1);
    world.catch_up();
    assert_eq!(world.reports.len(), 1);
}

#[test]
fn a_fork_that_is_repeated_often_is_answered_less_and_less() {
    let (mut world, map, log) = world_with_map();
    let mut same = log.clone();
    let alice = world.connect("alice");
    world.send(alice, map.more(vec![same.write(&["[3]"])]));
    world.skip_log();
    for _ in 0..100 {
        world.send(alice, map.more(vec![log.clone().write(&["[33]"])]));
    }
    let sent = |world: &mut World| {
        let said = world.said();
        said.iter().filter(|line| line.starts_with("alice ← CONTENT")).count()
    };
    // After 1, 2 and 16 forks.
    assert_eq!(sent(&mut world), 3);
    // Valid content between the forks changes nothing.
    for number in 0..10 {
        let changes = format!("[{number}]");
        world.send(alice, map.more(vec![same.write(&[&changes])]));
        world.send(alice, map.more(vec![log.clone().write(&["[33]"])]));
    }
    assert_eq!(sent(&mut world), 0);
}

#[test]
fn content_behind_a_fork_is_not_corrected_again_and_again() {
    let (mut world, map, log) = world_with_map();
    let mut forked = log.clone();
    let alice = world.connect("alice");
    world.send(alice, map.more(vec![log.clone().write(&["[3]"])]));
    world.skip_log();
    // Alice has forked the session, and sends what she has there in pieces.
    world.send(alice, map.more(vec![forked.write(&["[33]"])]));
    forked.write(&["[44]"]);
    world.send(alice, map.more(vec![forked.write(&["[55]"])]));
    world.expect(&[
        "alice → CONTENT map a:2+1",
        "alice ✗ the session's author has forked it after transaction 2",
        "alice ← KNOWN map header a:3",
        "alice ← CONTENT map a:2+1",
        "alice → CONTENT map a:4+1",
        "alice ← KNOWN map header a:3",
    ]);
}

#[test]
fn a_header_that_is_not_the_ids_is_refused() {
    let (mut world, _, mut log) = world_with_map();
    let (real, fake) = (Value::free("real"), Value::free("fake"));
    let alice = world.connect("alice");
    let mixed = Value { id: real.id, header: fake.header };
    world.name(&real, "real");
    world.send(alice, mixed.whole(vec![log.write(&["[]"])]));
    assert!(matches!(world.reports[0].rejection, Rejection::HeaderMismatch { .. }));
    assert!(!world.store.contains_key(&real.id));
    world.skip_log();
    world.send(alice, real.whole(Vec::new()));
    world.expect(&["alice → CONTENT real header", "alice ← KNOWN real header"]);
}

#[test]
fn a_malformed_session_is_refused_and_the_others_are_taken() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    let Message::Content(mut content) = map.more(vec![log.write(&["[3]"])]) else { return };
    content.malformed.push(MalformedSession {
        session: "x".to_owned(),
        error: DecodeError::Missing("lastSignature"),
    });
    let taken = content_credit(&content);
    world.send(alice, Message::Content(content));
    assert_eq!(world.released[&alice], taken);
    assert_eq!(world.durable(&map, &log), 3);
    assert!(matches!(world.reports[0].rejection, Rejection::Malformed(_)));
    world.skip_log();
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    assert_eq!(world.durable(&map, &log), 4);
}

#[test]
fn malformed_sessions_of_one_message_are_one_report() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    let Message::Content(mut content) = map.more(vec![log.write(&["[3]"])]) else { return };
    content.malformed = (0..1_000)
        .map(|number| MalformedSession {
            session: format!("x{number}"),
            error: DecodeError::Missing("lastSignature"),
        })
        .collect();
    world.send(alice, Message::Content(content));
    assert_eq!(world.reports.len(), 1);
    assert_eq!(world.reports[0].session.as_deref(), Some("x0"));
    let text = world.reports[0].rejection.to_string();
    assert!(text.ends_with(", and 999 more sessions"), "{text}");
    assert_eq!(world.durable(&map, &log), 3);
}

#[test]
fn a_forged_run_does_not_keep_out_the_honest_one_behind_it() {
    let (mut world, map, mut log) = world_with_map();
    let (eve, alice) = (world.connect("eve"), world.connect("alice"));
    world.slow_verifier = true;
    let good = log.write(&["[3]"]);
    world.send(eve, map.more(vec![forged(good.clone())]));
    world.send(alice, map.more(vec![good]));
    world.skip_log();
    world.catch_up();
    let said = world.said();
    assert_eq!(said[0], "eve ✗ the signature does not match the session's log after transaction 2");
    assert!(said.contains(&"alice ← KNOWN map header a:3".to_owned()));
    assert_eq!(world.durable(&map, &log), 3);
}

#[test]
fn content_before_bad_content_of_the_same_peer_is_accepted() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    let mut other = Author::new(2).agent_log(2);
    world.slow_verifier = true;
    // The second run waits for the first, and meanwhile another session turns out bad.
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.send(alice, map.more(vec![forged(other.write(&["[5]"]))]));
    let other = other.session;
    world.catch_up_one(|action| matches!(action, Action::Verify(job) if job.session == other));
    world.catch_up();
    assert_eq!(world.durable(&map, &log), 4);
}

#[test]
fn after_a_bad_run_the_peers_later_runs_of_the_session_are_dropped() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.send(alice, map.load(&[(&log, 2)]));
    world.slow_verifier = true;
    world.send(alice, map.more(vec![forged(log.write(&["[3]"]))]));
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.skip_log();
    world.catch_up();
    world.expect(&[
        "alice ✗ the signature does not match the session's log after transaction 2",
        "alice ← KNOWN map header a:2",
    ]);
}

#[test]
fn a_session_of_something_that_is_no_account_is_refused() {
    let (mut world, _, _) = world_with_map();
    let author = Author::new(1);
    let alice = world.connect("alice");
    // A map as the owner of a session.
    let map = Value::free("not an account");
    world.send(alice, map.whole(Vec::new()));
    let impostor = author.log_of(map.id, 3);
    let (target, mut log) = (Value::free("target"), impostor);
    world.send(alice, target.whole(vec![log.write(&["[1]"])]));
    assert!(matches!(world.reports[0].rejection, Rejection::NotAnAccount));
    assert_eq!(world.durable(&target, &log), 0);
}

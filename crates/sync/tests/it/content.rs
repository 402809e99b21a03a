//! Content: acknowledgements, corrections, duplicates.

use downbeat_sync::{Action, Event, Rejection, Verified};

use crate::authors::{Author, Log, Value};
use crate::load::world_with_map;
use crate::world::World;

fn new_map() -> (World, Value, Log) {
    let (map, log) = (Value::free("map"), Author::new(1).agent_log(1));
    let mut world = World::new();
    world.name(&map, "map");
    world.name_log(&log, "a");
    (world, map, log)
}

#[test]
fn content_is_forwarded_when_verified_and_acknowledged_when_durable() {
    let (mut world, map, mut log) = new_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load_nothing());
    world.skip_log();
    (world.slow_stores, world.slow_verifier) = (true, true);
    world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    world.expect(&["alice → CONTENT map header a:0+1"]);
    world.catch_up_one(|action| matches!(action, Action::Verify(_)));
    world.expect(&["bob ← CONTENT map header a:0+1"]);
    world.catch_up();
    world.expect(&["alice ← KNOWN map header a:1"]);
}

#[test]
fn a_load_is_answered_with_content_that_is_not_durable_yet() {
    let (mut world, map, mut log) = new_map();
    let alice = world.connect("alice");
    world.slow_stores = true;
    world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.expect(&[
        "alice → CONTENT map header a:0+1",
        "bob → LOAD map nothing",
        "bob ← CONTENT map header a:0+1",
    ]);
}

#[test]
fn nothing_is_said_of_a_value_whose_header_is_not_durable() {
    let (mut world, map, mut log) = new_map();
    let alice = world.connect("alice");
    world.slow_stores = true;
    world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 1)]));
    world.expect(&["alice → CONTENT map header a:0+1", "bob → LOAD map header a:1"]);
    world.catch_up();
    world.expect(&["alice ← KNOWN map header a:1", "bob ← KNOWN map header a:1"]);
}

#[test]
fn messages_that_are_stored_together_are_acknowledged_together() {
    let (mut world, map, mut log) = new_map();
    let alice = world.connect("alice");
    world.slow_stores = true;
    world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    world.send(alice, map.more(vec![log.write(&["[2]"])]));
    world.send(alice, map.more(vec![log.write(&["[3]", "[4]"])]));
    world.skip_log();
    world.catch_up_one(|action| matches!(action, Action::Store(_)));
    world.expect(&["alice ← KNOWN map header a:1"]);
    world.catch_up();
    world.expect(&["alice ← KNOWN map header a:2", "alice ← KNOWN map header a:4"]);
}

#[test]
fn content_that_comes_before_the_last_is_verified_is_taken_in_its_order() {
    let (mut world, map, mut log) = new_map();
    let alice = world.connect("alice");
    world.slow_verifier = true;
    world.send(alice, map.whole(vec![log.write(&["[1]"])]));
    world.send(alice, map.more(vec![log.write(&["[2]"])]));
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.skip_log();
    world.catch_up();
    assert_eq!(world.durable(&map, &log), 3);
    assert_eq!(world.said().last().unwrap(), "alice ← KNOWN map header a:3");
}

#[test]
fn a_header_alone_is_stored_and_acknowledged() {
    let (mut world, map, _) = new_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load_nothing());
    world.send(alice, map.whole(Vec::new()));
    world.expect(&[
        "bob → LOAD map nothing",
        "bob ← KNOWN map nothing",
        "alice → CONTENT map header",
        "bob ← CONTENT map header",
        "alice ← KNOWN map header",
    ]);
}

#[test]
fn content_with_a_gap_is_answered_with_a_correction() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.send(alice, map.load(&[(&log, 2)]));
    world.skip_log();
    let lost = log.write(&["[3]"]);
    let early = log.write(&["[4]"]);
    world.send(alice, map.more(vec![early.clone()]));
    world.send(alice, map.more(vec![lost]));
    world.send(alice, map.more(vec![early]));
    world.expect(&[
        "alice → CONTENT map a:3+1",
        "alice ← KNOWN CORRECTION map header a:2",
        "alice → CONTENT map a:2+1",
        "alice ← KNOWN map header a:3",
        "alice → CONTENT map a:3+1",
        "alice ← KNOWN map header a:4",
    ]);
}

#[test]
fn of_a_message_with_a_gap_in_one_session_the_others_are_taken() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    let mut other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    world.send(alice, map.load(&[(&log, 2)]));
    log.write(&["[3]"]);
    let (gap, fine) = (log.write(&["[4]"]), other.write(&["[5]"]));
    world.send(alice, map.more(vec![gap, fine]));
    assert_eq!(world.durable(&map, &other), 1);
    let said = world.said();
    assert!(said.contains(&"alice ← KNOWN CORRECTION map header a:2".to_owned()), "{said:?}");
    world.send(alice, map.more(vec![other.write(&["[6]"])]));
    assert_eq!(world.said().last().unwrap(), "alice ← KNOWN map header a:2 b:2");
}

#[test]
fn content_without_a_header_of_an_unknown_value_is_answered_with_an_empty_correction() {
    let (mut world, map, mut log) = new_map();
    let alice = world.connect("alice");
    let run = log.write(&["[1]"]);
    world.send(alice, map.more(vec![run.clone()]));
    world.send(alice, map.whole(vec![run]));
    world.expect(&[
        "alice → CONTENT map a:0+1",
        "alice ← KNOWN CORRECTION map nothing",
        "alice → CONTENT map header a:0+1",
        "alice ← KNOWN map header a:1",
    ]);
}

#[test]
fn a_known_prefix_is_skipped() {
    let (mut world, map, _) = world_with_map();
    let mut log = Author::new(1).agent_log(1);
    let alice = world.connect("alice");
    world.send(alice, map.whole(vec![log.write(&["[1]", "[2]", "[3]"])]));
    world.expect(&["alice → CONTENT map header a:0+3", "alice ← KNOWN map header a:3"]);
}

#[test]
fn duplicates_are_acknowledged_again() {
    let (mut world, map, _) = world_with_map();
    let mut log = Author::new(1).agent_log(1);
    let alice = world.connect("alice");
    world.send(alice, map.whole(vec![log.write(&["[1]", "[2]"])]));
    world.expect(&["alice → CONTENT map header a:0+2", "alice ← KNOWN map header a:2"]);
}

#[test]
fn all_the_credit_of_a_peer_comes_back() {
    let (mut world, map, mut log) = new_map();
    let alice = world.connect("alice");
    (world.slow_loads, world.slow_stores, world.slow_verifier) = (true, true, true);
    let mut messages = vec![map.whole(vec![log.write(&["[1]"])])];
    for _ in 0..5 {
        messages.push(map.more(vec![log.write(&["[2]"])]));
    }
    messages.push(messages[1].clone());
    let sent = messages.iter().map(crate::authors::credit).sum::<u64>();
    for message in messages {
        world.send(alice, message);
    }
    world.catch_up();
    assert_eq!(world.released[&alice], sent);
}

#[test]
fn a_lost_race_for_the_store_is_corrected() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.slow_stores = true;
    let runs = [log.write(&["[3]"]), log.write(&["[4]"])];
    world.send(alice, map.more(vec![runs[0].clone()]));
    world.send(alice, map.more(vec![runs[1].clone()]));
    world.conflict = true;
    world.catch_up();
    world.expect(&[
        "alice → CONTENT map a:2+1",
        "alice → CONTENT map a:3+1",
        "alice ← KNOWN CORRECTION map header a:2",
    ]);
    for run in runs {
        world.send(alice, map.more(vec![run]));
    }
    assert_eq!(world.durable(&map, &log), 4);
    assert_eq!(world.said().last().unwrap(), "alice ← KNOWN map header a:4");
}

#[test]
fn content_that_is_unreadable_after_a_conflict_is_no_peers_fault() {
    let (mut world, map, mut log) = world_with_map();
    let alice = world.connect("alice");
    world.slow_stores = true;
    world.slow_verifier = true;
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.catch_up_one(|action| matches!(action, Action::Verify(_)));
    // What is on its way to be stored is too late, and is gone: what follows it has no log.
    world.send(alice, map.more(vec![log.write(&["[4]"])]));
    world.conflict = true;
    world.waiting.retain(|action| !matches!(action, Action::Verify(_)));
    world.skip_log();
    let (id, session) = (map.id, log.session.clone());
    let rejection = Some(Rejection::Unreadable);
    let accepted = Vec::new();
    world.event(Event::Verified(Verified { id, session, accepted, chain: None, rejection }));
    world.catch_up();
    world.expect(&["alice ← KNOWN CORRECTION map header a:2"]);
    assert_eq!(world.reports, []);
    // She is listened to as before.
    let mut again = Author::new(1).agent_log(1);
    again.write(&["[1]", "[2]"]);
    world.send(alice, map.more(vec![again.write(&["[3]", "[4]"])]));
    assert_eq!(world.durable(&map, &log), 4);
}

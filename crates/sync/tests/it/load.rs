//! LOADs and their answers.

use crate::authors::{Author, Log, Value};
use crate::world::World;

/// A world with a map `map` that alice has sent, two transactions in session `a`.
pub(crate) fn world_with_map() -> (World, Value, Log) {
    let author = Author::new(1);
    let map = Value::free("map");
    let mut log = author.agent_log(1);
    let mut world = World::new();
    world.name(&map, "map");
    world.name_log(&log, "a");
    let alice = world.connect("alice");
    let run = log.write(&["[1]", "[2]"]);
    world.send(alice, map.whole(vec![run]));
    world.disconnect(alice);
    world.skip_log();
    (world, map, log)
}

#[test]
fn content_sent_before_a_load_does_not_count_after_it() {
    let mut world = World::new();
    let (map, mut log) = (Value::free("map"), Author::new(1).agent_log(1));
    world.name(&map, "map");
    world.name_log(&log, "a");
    let ann = world.connect("ann");
    world.slow_verifier = true;
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    // She has forgotten it before it was taken.
    world.send(ann, map.load_nothing());
    world.catch_up();
    let said = world.said();
    assert!(said.contains(&"ann ← CONTENT map header a:0+1".to_owned()), "{said:?}");
    // From her KNOWN on, what she sends tells what she has again.
    world.send(ann, map.known(&[(&log, 1)]));
    world.skip_log();
    world.send(ann, map.more(vec![log.write(&["[2]"])]));
    world.expect(&["ann → CONTENT map a:1+1", "ann ← KNOWN map header a:2"]);
}

#[test]
fn a_load_of_an_unknown_value_is_answered_not_found() {
    let mut world = World::new();
    let map = Value::free("map");
    world.name(&map, "map");
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.send(bob, map.load_nothing());
    world.expect(&[
        "bob → LOAD map nothing",
        "bob ← KNOWN map nothing",
        "bob → LOAD map nothing",
        "bob ← KNOWN map nothing",
    ]);
}

#[test]
fn a_peer_that_asked_too_early_gets_the_value_when_it_comes() {
    let mut world = World::new();
    let (map, mut log) = (Value::free("map"), Author::new(1).agent_log(1));
    world.name(&map, "map");
    world.name_log(&log, "a");
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    world.send(bob, map.load_nothing());
    world.send(alice, map.whole(vec![log.write(&["[]"])]));
    world.expect(&[
        "bob → LOAD map nothing",
        "bob ← KNOWN map nothing",
        "alice → CONTENT map header a:0+1",
        "bob ← CONTENT map header a:0+1",
        "alice ← KNOWN map header a:1",
    ]);
}

#[test]
fn a_load_of_a_warm_value_is_answered_with_content() {
    let (mut world, map, _) = world_with_map();
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.expect(&["bob → LOAD map nothing", "bob ← CONTENT map header a:0+2"]);
}

#[test]
fn a_load_of_a_stored_value_is_answered_with_content() {
    let (mut world, map, log) = world_with_map();
    world.restart();
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.send(bob, map.known(&[(&log, 2)]));
    world.expect(&[
        "bob → LOAD map nothing",
        "bob ← CONTENT map header a:0+2",
        "bob → KNOWN map header a:2",
    ]);
}

#[test]
fn a_load_of_a_part_is_answered_with_the_rest() {
    let (mut world, map, log) = world_with_map();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 1)]));
    world.expect(&["bob → LOAD map header a:1", "bob ← CONTENT map a:1+1"]);
}

#[test]
fn a_load_of_everything_is_answered_without_content() {
    for warm in [true, false] {
        let (mut world, map, log) = world_with_map();
        if !warm {
            world.restart();
        }
        let bob = world.connect("bob");
        world.send(bob, map.load(&[(&log, 2)]));
        world.expect(&["bob → LOAD map header a:2", "bob ← KNOWN map header a:2"]);
    }
}

#[test]
fn a_load_of_more_than_is_here_is_answered_with_our_state_and_followed_by_theirs() {
    let (mut world, map, mut log) = world_with_map();
    let more = log.write(&["[3]"]);
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 3)]));
    world.send(bob, map.more(vec![more]));
    world.expect(&[
        "bob → LOAD map header a:3",
        "bob ← KNOWN CORRECTION map header a:2",
        "bob → CONTENT map a:2+1",
        "bob ← KNOWN map header a:3",
    ]);
}

#[test]
fn a_load_replaces_the_known_counts_of_the_peer() {
    let (mut world, map, log) = world_with_map();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 2)]));
    world.skip_log();
    world.send(bob, map.load_nothing());
    world.expect(&["bob → LOAD map nothing", "bob ← CONTENT map header a:0+2"]);
}

#[test]
fn known_adds_to_the_known_counts_and_a_correction_replaces_them() {
    let (mut world, map, log) = world_with_map();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 2)]));
    world.send(bob, map.known(&[(&log, 2)]));
    world.skip_log();
    world.send(bob, map.known(&[(&log, 1)]));
    world.expect(&["bob → KNOWN map header a:1"]);
    world.send(bob, map.correction(&[(&log, 1)]));
    world.expect(&["bob → KNOWN CORRECTION map header a:1", "bob ← CONTENT map a:1+1"]);
}

#[test]
fn the_first_known_after_a_load_tells_what_a_peer_has_whose_download_was_cut() {
    let (mut world, map, log) = world_with_map();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 2)]));
    world.skip_log();
    world.send(bob, map.known(&[(&log, 1)]));
    world.expect(&["bob → KNOWN map header a:1", "bob ← CONTENT map a:1+1"]);
}

#[test]
fn a_client_that_claims_in_a_load_what_it_was_promised_gets_the_rest_when_known_tells_the_truth() {
    let (mut world, map, log) = world_with_map();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 2)]));
    world.skip_log();
    world.send(bob, map.known(&[(&log, 1)]));
    world.expect(&["bob → KNOWN map header a:1", "bob ← CONTENT map a:1+1"]);
}

#[test]
fn known_from_a_new_peer_of_a_cold_value_is_answered_with_the_rest() {
    let (mut world, map, log) = world_with_map();
    world.restart();
    let bob = world.connect("bob");
    world.send(bob, map.known(&[(&log, 1)]));
    world.expect(&["bob → KNOWN map header a:1", "bob ← CONTENT map a:1+1"]);
}

#[test]
fn known_of_an_unknown_value_is_not_answered() {
    let mut world = World::new();
    let (map, log) = (Value::free("map"), Author::new(1).agent_log(1));
    world.name(&map, "map");
    world.name_log(&log, "a");
    let bob = world.connect("bob");
    world.send(bob, map.known(&[(&log, 1)]));
    world.send(bob, map.known_nothing());
    world.expect(&["bob → KNOWN map header a:1", "bob → KNOWN map nothing"]);
}

#[test]
fn a_look_up_that_failed_is_tried_again() {
    let (mut world, map, _) = world_with_map();
    world.restart();
    world.broken_loads = true;
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.expect(&["bob → LOAD map nothing"]);
    assert_eq!(world.machine.deadline(), Some(1_000));
    world.pass(1_000);
    world.broken_loads = false;
    world.pass(999);
    world.expect(&[]);
    world.pass(1);
    world.expect(&["bob ← CONTENT map header a:0+2"]);
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn new_content_goes_to_every_subscriber_but_its_author() {
    let (mut world, map, mut log) = world_with_map();
    let (alice, bob) = (world.connect("alice"), world.connect("bob"));
    let carol = world.connect("carol");
    world.send(alice, map.load(&[(&log, 2)]));
    world.send(bob, map.load(&[(&log, 2)]));
    world.skip_log();
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.expect(&[
        "alice → CONTENT map a:2+1",
        "bob ← CONTENT map a:2+1",
        "alice ← KNOWN map header a:3",
    ]);
    let _ = carol;
}

#[test]
fn everything_survives_a_restart() {
    let (mut world, map, mut log) = world_with_map();
    world.restart();
    let alice = world.connect("alice");
    // The chain of the log has to be made from what is stored.
    world.send(alice, map.more(vec![log.write(&["[3]"])]));
    world.expect(&["alice → CONTENT map a:2+1", "alice ← KNOWN map header a:3"]);
}

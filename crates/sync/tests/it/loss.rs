//! Content that the server has lost and a client still has. A client sends acknowledged content
//! again only after a correction.

use downbeat_protocol::{Message, SessionCounts};
use downbeat_sync::{Action, Event, Loaded};

use crate::authors::{Author, Log, Value};
use crate::load::world_with_map;
use crate::world::World;

/// A world whose store has lost everything.
fn empty_world() -> (World, Value, Log) {
    let (mut world, map, log) = world_with_map();
    world.lose_everything();
    (world, map, log)
}

#[test]
fn a_load_that_claims_more_than_is_here_is_answered_by_a_correction() {
    for warm in [true, false] {
        let (mut world, map, mut log) = world_with_map();
        if !warm {
            world.restart();
        }
        let lost = log.write(&["[3]"]);
        let bob = world.connect("bob");
        world.send(bob, map.load(&[(&log, 3)]));
        world.send(bob, map.more(vec![lost]));
        world.expect(&[
            "bob → LOAD map header a:3",
            "bob ← KNOWN CORRECTION map header a:2",
            "bob → CONTENT map a:2+1",
            "bob ← KNOWN map header a:3",
        ]);
    }
}

#[test]
fn a_load_of_a_lost_value_is_answered_by_a_correction() {
    let (mut world, map, log) = empty_world();
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 2)]));
    world.expect(&["bob → LOAD map header a:2", "bob ← KNOWN CORRECTION map nothing"]);
}

#[test]
fn a_peer_that_lacks_something_and_claims_something_lost_gets_both_answers() {
    let (mut world, map, log) = world_with_map();
    let other = Author::new(2).agent_log(2);
    world.name_log(&other, "b");
    let bob = world.connect("bob");
    world.send(bob, map.load(&[(&log, 1), (&other, 1)]));
    world.expect(&[
        "bob → LOAD map header a:1 b:1",
        "bob ← KNOWN CORRECTION map header a:2",
        "bob ← CONTENT map a:1+1",
    ]);
}

#[test]
fn an_upstream_that_has_lost_something_gets_it_without_a_correction() {
    let (mut world, map, log) = world_with_map();
    let core = world.connect_upstream("core");
    world.skip_log();
    world.send(core, map.load(&[(&log, 3)]));
    world.expect(&["core → LOAD map header a:3", "core ← KNOWN map header a:2"]);
}

#[test]
fn content_being_verified_counts_as_had() {
    let (mut world, map, mut log) = world_with_map();
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.slow_verifier = true;
    world.send(ann, map.more(vec![log.write(&["[3]"])]));
    world.send(bob, map.load(&[(&log, 3)]));
    world.expect(&["ann → CONTENT map a:2+1", "bob → LOAD map header a:3"]);
    world.catch_up();
    world.expect(&["ann ← KNOWN map header a:3", "bob ← KNOWN map header a:3"]);
}

#[test]
fn content_being_stored_counts_as_had() {
    let (mut world, map, mut log) = world_with_map();
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.slow_stores = true;
    world.send(ann, map.more(vec![log.write(&["[3]"])]));
    world.send(bob, map.load(&[(&log, 3)]));
    world.expect(&["ann → CONTENT map a:2+1", "bob → LOAD map header a:3"]);
    world.catch_up();
    world.expect(&["ann ← KNOWN map header a:3", "bob ← KNOWN map header a:3"]);
}

#[test]
fn a_claim_is_corrected_when_what_was_being_verified_was_not_enough_or_was_bad() {
    let (mut world, map, log) = world_with_map();
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.slow_verifier = true;
    let bad = crate::authors::forged(log.clone().write(&["[666]"]));
    world.send(ann, map.more(vec![bad]));
    world.send(bob, map.load(&[(&log, 3)]));
    world.skip_log();
    world.catch_up();
    let said = world.said();
    assert!(said.contains(&"bob ← KNOWN CORRECTION map header a:2".to_owned()), "{said:?}");
}

#[test]
fn a_claim_waits_for_the_look_up_after_another_writer() {
    let (mut world, map, mut log) = world_with_map();
    let (ann, bob) = (world.connect("ann"), world.connect("bob"));
    world.slow_verifier = true;
    world.send(ann, map.more(vec![log.write(&["[3]"])]));
    world.conflict = true;
    world.send(bob, map.load(&[(&log, 4)]));
    world.skip_log();
    world.catch_up();
    let said = world.said();
    assert!(said.contains(&"bob ← KNOWN CORRECTION map header a:2".to_owned()), "{said:?}");
}

#[test]
fn content_on_the_way_into_an_unknown_value_counts_as_had() {
    let mut world = World::new();
    let (map, mut log) = (Value::free("map"), Author::new(1).agent_log(1));
    world.name(&map, "map");
    world.name_log(&log, "a");
    let ann = world.connect("ann");
    world.slow_loads = true;
    world.send(ann, map.whole(vec![log.write(&["[1]"])]));
    world.send(ann, map.load(&[(&log, 1)]));
    world.catch_up();
    world.expect(&[
        "ann → CONTENT map header a:0+1",
        "ann → LOAD map header a:1",
        "ann ← KNOWN map header a:1",
    ]);
}

#[test]
fn a_deleted_value_is_never_corrected() {
    let (mut world, map, log) = world_with_map();
    world.store.get_mut(&map.id).unwrap().deleted = true;
    world.restart();
    let bob = world.connect("bob");
    world.slow_loads = true;
    world.send(bob, map.load(&[(&log, 9)]));
    let (sessions, dependencies) = (SessionCounts::new(), Vec::new());
    let loaded = Loaded { header: map.header, sessions, dependencies, deleted: true };
    world.event(Event::Loaded { id: map.id, result: Ok(Some(Box::new(loaded))) });
    world.expect(&["bob → LOAD map header a:9", "bob ← KNOWN map header a:9"]);
}

#[test]
fn pieces_on_their_way_are_corrected_once_and_again_only_after_a_while() {
    let (mut world, map, mut log) = empty_world();
    let bob = world.connect("bob");
    let pieces: Vec<Message> =
        (3..9).map(|n| map.more(vec![log.write(&[&format!("[{n}]")])])).collect();
    for piece in pieces {
        world.send(bob, piece);
    }
    let corrections = |world: &mut World| {
        let said = world.said();
        said.iter().filter(|line| line.contains("CORRECTION")).count()
    };
    assert_eq!(corrections(&mut world), 1);
    // It sends nothing, so it is told once more, and then less and less often.
    world.pass(1_000);
    assert_eq!(corrections(&mut world), 1);
    world.send(bob, map.more(vec![log.write(&["[9]"])]));
    assert_eq!(corrections(&mut world), 0);
    world.pass(1_999);
    assert_eq!(corrections(&mut world), 0);
    world.pass(1);
    assert_eq!(corrections(&mut world), 1);
    // A LOAD begins the count again.
    world.send(bob, map.load(&[(&log, 9)]));
    assert_eq!(corrections(&mut world), 1);
}

#[test]
fn a_gap_that_is_closed_meanwhile_is_acknowledged_instead_of_corrected() {
    let (mut world, map, log) = empty_world();
    let bob = world.connect("bob");
    let mut sent = log.clone();
    world.send(bob, map.more(vec![sent.write(&["[3]"])]));
    world.send(bob, map.more(vec![sent.write(&["[4]"])]));
    world.expect(&[
        "bob → CONTENT map a:2+1",
        "bob ← KNOWN CORRECTION map nothing",
        "bob → CONTENT map a:3+1",
    ]);
    let mut again = Author::new(1).agent_log(1);
    let all = again.write(&["[1]", "[2]", "[3]", "[4]"]);
    world.send(bob, map.whole(vec![all]));
    world.expect(&["bob → CONTENT map header a:0+4", "bob ← KNOWN map header a:4"]);
    world.pass(1_000);
    world.expect(&[]);
}

#[test]
fn loads_of_one_client_are_answered_in_their_order() {
    let (mut world, map, _) = world_with_map();
    let group = Value::free("group");
    world.name(&group, "group");
    world.restart();
    let bob = world.connect("bob");
    world.slow_loads = true;
    world.send(bob, group.load_nothing());
    world.send(bob, map.load_nothing());
    world.skip_log();
    let is_of = |id| move |action: &Action| matches!(action, Action::Load(asked) if *asked == id);
    world.catch_up_one(is_of(map.id));
    world.expect(&[]);
    world.catch_up_one(is_of(group.id));
    world.expect(&["bob ← KNOWN group nothing", "bob ← CONTENT map header a:0+2"]);
}

#[test]
fn a_load_of_what_is_in_memory_does_not_overtake_one_that_waits_for_storage() {
    let mut world = World::new();
    let (group, map) = (Value::free("group"), Value::free("map"));
    world.name(&group, "group");
    world.name(&map, "map");
    let bob = world.connect("bob");
    world.send(bob, map.load_nothing());
    world.skip_log();
    world.slow_loads = true;
    world.send(bob, group.load_nothing());
    world.send(bob, map.load_nothing());
    world.send(bob, map.load_nothing());
    world.skip_log();
    world.catch_up();
    world.expect(&["bob ← KNOWN group nothing", "bob ← KNOWN map nothing"]);
}

#[test]
fn a_look_up_that_fails_holds_up_nothing_behind_it() {
    let (mut world, map, _) = world_with_map();
    let group = Value::free("group");
    world.name(&group, "group");
    let bob = world.connect("bob");
    world.slow_loads = true;
    world.broken_loads = true;
    world.send(bob, group.load_nothing());
    world.send(bob, map.load_nothing());
    world.skip_log();
    world.catch_up();
    world.expect(&["bob ← CONTENT map header a:0+2"]);
}

#[test]
fn an_upstream_that_is_asked_holds_up_nothing_behind_it() {
    let (mut world, map, _) = world_with_map();
    let group = Value::free("group");
    world.name(&group, "group");
    let (_, bob) = (world.connect_upstream("core"), world.connect("bob"));
    world.slow_loads = true;
    world.send(bob, group.load_nothing());
    world.send(bob, map.load_nothing());
    world.skip_log();
    world.catch_up();
    let said = world.said();
    assert!(said.contains(&"bob ← CONTENT map header a:0+2".to_owned()), "{said:?}");
}
